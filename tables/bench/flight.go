//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
)

// flightBench measures puts and gets over Flight.
type flightBench struct{ *bench }

// measureFlight measures puts and gets over Flight: it runs the client of shoots, a small Flight server for data
// frames, against our server and against shoots' own server.
func (b *flightBench) measureFlight() error {
	const rows, columns = 500_000, 50
	return b.withSQL(&duck.Options{TempDir: b.dir, Processes: true}, tables.Options{}, func(s *tables.Store) error {
		return b.serve(s, func(port int) error { return b.runFlightPeer(port, rows, columns) })
	})
}

// serve serves a store over Flight while f runs.
func (b *bench) serve(s *tables.Store, f func(port int) error) error {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return err
	}
	server, err := flightd.New(s, nil)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	ctx, stop := context.WithCancel(b.ctx)
	serveErr := make(chan error, 1)
	go func() { serveErr <- server.Serve(ctx, l) }()
	benchErr := f(l.Addr().(*net.TCPAddr).Port)
	stop()
	return errors.Join(benchErr, <-serveErr)
}

func (b *flightBench) runFlightPeer(port, rows, columns int) error {
	var timesByCall map[string]map[string][2]float64
	if err := b.runPython("flight.py", "shoots", &timesByCall, fmt.Sprint(port), fmt.Sprint(rows), fmt.Sprint(os.Getpid())); err != nil {
		return err
	}
	megabytes := float64(rows*columns*8) / 1e6
	for _, call := range slices.Sorted(maps.Keys(timesByCall)) {
		for _, server := range slices.Sorted(maps.Keys(timesByCall[call])) {
			t := timesByCall[call][server]
			fmt.Printf("flight, %d × %d float64, %s, %s: %.0f MB/s, %.1f s of CPU per GB\n", rows, columns, call, server, megabytes/t[0], t[1]*1000/megabytes)
			contender := map[string]string{"ours": "tables", "shoots": "shoots", "alone": "pyarrow"}[server]
			b.writeFigure(benchdata.Figure{Job: "flight, " + call, Contender: contender, Value: megabytes / t[0], Unit: "MB/s", Runs: b.rounds})
		}
	}
	return nil
}
