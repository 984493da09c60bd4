//go:build deps

package deps

import (
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "golang.org/x/term"
	_ "pgregory.net/rapid"
)
