//go:build cgo && unix

package main

import (
	"fmt"
	"strings"
)

// measureClients measures peers, for comparison with measureWriters: Quack's server with one and with eight
// clients, and DuckLake. Each row is committed separately.
func (b *writersBench) measureClients() error {
	return b.reportPeers("writers", []string{"quack", "ducklake"}, func(peer, key string) (job, contender string) {
		n, where, _ := strings.Cut(key, " ")
		return writersJob(n, where == "each"), peer
	})
}

// writersJob returns the name of the job in which n writers append to one table, or to a table each.
func writersJob(n any, ownTables bool) string {
	where := "one table"
	if ownTables {
		where = "a table each"
	}
	return fmt.Sprintf("append 1 row to %s, synced; writers: %v", where, n)
}
