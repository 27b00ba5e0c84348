"""Pictures of results, and the page that shows them: renderings of JSON files. No torch."""
