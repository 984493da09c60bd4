//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package quickstart

import (
	"os"

	"github.com/go-partd/partd/tables/internal/sql/database"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "sql" {
		database.OpenEarly() // while another core initializes the other packages and opens the store
	}
}
