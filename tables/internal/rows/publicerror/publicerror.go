// Package publicerror lets errors.As convert errors from internal packages to types that package tables exports.
// Internal packages cannot import these types.
package publicerror

// As implements the As method for the errors in internal packages: if target points to the type in package tables that
// corresponds to err's type, As sets *target and returns true. The initialization of package tables replaces As.
var As = func(err error, target any) bool { return false }
