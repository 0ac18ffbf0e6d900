"""The demonstration: a small phone-number shop and a scripted agent."""
