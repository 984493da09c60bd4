package remote

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestMain(m *testing.M) {
	procs.AllowParallel()
	procs.Main(m)
}
