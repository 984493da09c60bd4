package remote

import (
	"os"
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestMain(m *testing.M) {
	procs.AllowParallel()
	os.Exit(m.Run())
}
