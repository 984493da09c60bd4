//go:build !unix

package cli

import "errors"

func replaceProcess(string, []string) error { return errors.ErrUnsupported } // partd-tables runs on Unix only
