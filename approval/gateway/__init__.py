"""Agents in, upstream servers out: MCP on the wire."""
