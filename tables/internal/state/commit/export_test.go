package commit

// MaxPlanned lets tests lower the limit.
var MaxPlanned = &maxPlanned
