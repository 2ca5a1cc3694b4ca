"""Reading exported models: their files checked, their answers, their explanations; the client of a server."""
