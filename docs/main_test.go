// Package docs_test tests the pages, and what they say about the repository.
package docs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
)

// TestMain runs the tests in the root of the repository, because pages name paths from there. The test binary acts as
// partd or partd-server if it is run by that name.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "partd":
		os.Exit(cli.Main(os.Args[1:]))
	case "partd-server":
		os.Exit(servercli.Main(os.Args[1:]))
	}
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
