"""Gets data sets and weights: `scripts/fetch`. Python's standard library only, 3.9 or later, and curl.

Read in this order: cli (what can be typed), catalog (data/datasets.json), getting (one data set from start to end),
download (one file: mirrors, resuming, waiting), transport (one request, by curl), drive (Google Drive's confirm page),
unpack (archives, distrusted), check (counts and names), convert/ (from a published layout to ours).
"""
