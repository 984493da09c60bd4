//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package quickstart

import (
	"os"
	"slices"
	"strings"

	"github.com/go-partd/partd/tables/internal/sql/database"
)

func init() {
	isServer := func(flag string) bool { return strings.HasPrefix(flag, "--server") }
	if len(os.Args) > 1 && os.Args[1] == "sql" && os.Getenv("PARTD_TABLES_SERVER") == "" && !slices.ContainsFunc(os.Args, isServer) {
		database.OpenEarly() // in the background, while the other packages are initialized and the store is opened
	}
}
