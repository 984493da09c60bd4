// Package docs_test tests the pages, and what they say about the repository.
package docs_test

import (
	"os"
	"testing"
)

// TestMain runs the tests in the root of the repository, because pages name paths from there.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
