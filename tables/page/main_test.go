package page

import (
	"os"
	"testing"

	"github.com/go-partd/partd/tables/internal/sql/worker"
)

func TestMain(m *testing.M) {
	worker.Main()
	os.Exit(m.Run())
}
