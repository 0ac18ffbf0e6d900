"""What is known of tools and policies beside their judging: importers of foreign policies, lint."""
