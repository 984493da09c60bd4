// Command partd-tables stores rows as named tables. See "partd-tables --help".
package main

import (
	"os"

	"github.com/go-partd/partd/tables/cmd/internal/cli"
	_ "github.com/go-partd/partd/tables/internal/quickstart"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs for --catalog postgres://…
)

func main() {
	worker.Main()
	os.Exit(cli.Main(os.Args[1:]))
}
