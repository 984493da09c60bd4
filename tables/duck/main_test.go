//go:build cgo

package duck_test

import (
	"os"
	"testing"

	"github.com/go-partd/partd/tables/duck"
)

func TestMain(m *testing.M) {
	duck.RunWorker()
	os.Exit(m.Run())
}
