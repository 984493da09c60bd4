// Package docs_test tests the pages, and what they say about the repository.
package docs_test

import (
	"os"
	"testing"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestMain runs the tests in the root of the repository, because pages name paths from there. The test binary acts as
// partd or partd-server if it is run by that name.
func TestMain(m *testing.M) {
	procs.Roles{"partd": procs.Program(cli.Main), "partd-server": procs.Program(servercli.Main)}.Play()
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
