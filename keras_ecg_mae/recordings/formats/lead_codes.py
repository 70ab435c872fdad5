"""The numbers that SCP-ECG gives to leads, of which MFER uses the same.

EN 1064 and ISO 11073-91064, section 3; MFER part 1, table of lead names of the electrocardiogram.
"""

LEAD_CODES: dict[int, str] = {
    **dict(enumerate(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "V7"), start=1)),
    **dict(enumerate(("V2R", "V3R", "V4R", "V5R", "V6R", "V7R", "X", "Y", "Z"), start=10)),
    **dict(enumerate(("III", "aVR", "aVL", "aVF", "-aVR", "V8", "V9", "V8R", "V9R"), start=61)),
}
