//go:build cgo

package duck_test

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/duck"
)

func TestMain(m *testing.M) {
	duck.RunWorker()
	procs.Roles{"statements": runStatements}.Main(m)
}
