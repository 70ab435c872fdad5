"""Recordings of patients who do not exist: heart, rhythm, patients, devices, and a cohort of them as files."""
