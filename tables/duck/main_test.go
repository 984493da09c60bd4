//go:build cgo

package duck_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/go-partd/partd/tables/duck"
)

func TestMain(m *testing.M) {
	duck.RunWorker()
	if dir := os.Getenv(execChildEnv); dir != "" {
		if err := runExecChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
