//go:build !unix

package partdtest

import "errors"

// reserve returns an error: it is not implemented for this system.
func reserve(int) (b []byte, free func(), err error) { return nil, nil, errors.ErrUnsupported }
