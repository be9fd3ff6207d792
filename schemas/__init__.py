"""JSON Schemas generated from the models, and rubrics: data only."""
