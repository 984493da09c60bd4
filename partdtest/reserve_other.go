//go:build !unix

package partdtest

import "errors"

func reserve(int) (b []byte, free func(), err error) { return nil, nil, errors.ErrUnsupported }
