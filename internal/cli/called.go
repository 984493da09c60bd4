package cli

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/go-partd/partd/internal/textfmt"
)

// called returns the command that a message tells to run.
func (a *app) called(args string) string { return cmp.Or(a.name, "partd") + " " + args }

// calledAs returns how this program is run again: as it was, if by a path. One that
// "go run" made is gone at its end.
func calledAs(arg0 string) string {
	exe, err := os.Executable()
	if info, ok := debug.ReadBuildInfo(); err == nil && ok && strings.Contains(exe, "go-build") && strings.HasSuffix(info.Path, "/cmd/partd") {
		if info.Main.Sum != "" { // of a version, not of the directory at hand
			return "go run " + info.Path + "@" + info.Main.Version
		}
		return "go run " + info.Path
	}
	if strings.ContainsRune(arg0, filepath.Separator) {
		return textfmt.ShellQuote(arg0)
	}
	return filepath.Base(arg0)
}

// storeArgument returns the flag that names a store, "" where it is that of all who
// give none.
func storeArgument(url string) string {
	if url == defaultStore && os.Getenv(env.Variable("store")) == "" {
		return ""
	}
	return " --store " + textfmt.ShellQuote(url)
}
