// Command partd-server shares one store between many processes. See "partd-server --help".
package main

import (
	"os"

	"github.com/go-partd/partd/internal/command/servercli"
)

func main() {
	os.Exit(servercli.Main(os.Args[1:]))
}
