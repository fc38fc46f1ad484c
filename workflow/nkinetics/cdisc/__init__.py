"""The CDISC package: data sets of SDTM, ADaM and for population models, with metadata, checks and a guide."""
