//go:build cgo && unix

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// measureClients measures peers, for comparison with measureWriters: Quack's server with one and with eight
// clients, and DuckLake. Each row is committed separately.
func (b *bench) measureClients() error {
	for _, peer := range []string{"quack", "ducklake"} {
		elapsed, err := b.runPeer(peer, "writers")
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(elapsed)) {
			n, where, _ := strings.Cut(key, " ")
			job := fmt.Sprintf("append 1 row to one table, synced; writers: %s", n)
			if where == "each" {
				job = fmt.Sprintf("append 1 row to a table each, synced; writers: %s", n)
			}
			fmt.Printf("%s, %s: %.0f rows/s\n", job, peer, 1/elapsed[key])
			if err := b.writeFigure(job, peer, elapsed[key], b.rounds); err != nil {
				return err
			}
		}
	}
	return nil
}
