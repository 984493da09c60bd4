// Package publicerror lets errors.As find errors of internal packages as the types that package tables exports, which
// internal packages cannot import.
package publicerror

// As sets target to err, as the As method of an error does, if target points to a type of package tables that stands for
// err's type. Package tables sets As before its functions can be called.
var As = func(err error, target any) bool { return false }
