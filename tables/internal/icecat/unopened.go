package icecat

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"

	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/vfs"
)

// Unopened returns the catalog of a store that was not opened: what is asked of its
// database is an error that says so.
var Unopened = sync.OnceValue(func() *Catalog {
	none := sql.OpenDB(unopened{})
	c := &Catalog{fs: vfs.OS{}, writes: none, reads: none, postgres: true, around: func(bool) {}}
	c.reader = c.NewIO()
	return c
})

type unopened struct{}

func (unopened) Connect(context.Context) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }

func (unopened) Open(string) (driver.Conn, error) { return nil, storeerror.ErrNotOpened }
func (unopened) Driver() driver.Driver            { return unopened{} }
