//go:build !unix

package partdtest

import "errors"

// reserve returns an error: no such memory is known here.
func reserve(int) (b []byte, free func(), err error) { return nil, nil, errors.ErrUnsupported }
