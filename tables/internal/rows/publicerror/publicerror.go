// Package publicerror lets errors.As find errors of internal packages as the types that package tables exports, which
// internal packages cannot import.
package publicerror

// As implements the As method of the errors of internal packages: if target points to the type of package tables that
// corresponds to err's type, As sets *target and returns true. The initialization of package tables replaces As.
var As = func(err error, target any) bool { return false }
