"""Our wheel in somebody else's Django project: docs/your-project.md, step by step, and projects with names of ours."""
