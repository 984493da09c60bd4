package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// recoveredNamespace contains rebuilt tables whose names are lost.
const recoveredNamespace = "recovered"

// image returns the path of the database file that salvage writes.
func (f *sqliteFiles) image() string {
	return filepath.Join(filepath.Dir(f.path), "catalog-rebuild.db")
}

// salvage renames the damaged files, and writes the newest content of all pages to the image, unless an interrupted rebuild
// has done so. It repairs pages in which a single bit has changed, and reports whether all pages are then intact.
func (f *sqliteFiles) salvage() (isExact bool, err error) {
	if _, err := os.Stat(f.image()); err == nil {
		return false, nil
	}
	db, dbErr := os.ReadFile(f.path)
	sums, sumsErr := f.sums()
	if err := cmp.Or(dbErr, sumsErr); err != nil {
		return false, err
	}
	w, err := readWAL(f.path+"-wal", false)
	if errors.Is(err, ErrContent) {
		w, _ = readWAL(f.path+"-wal", true)
	}
	isExact = !w.isLossy && w.salts == sums[0]
	for n := 1; isExact && n < min(len(sums), 1+len(db)/pageSize); n++ {
		page := db[(n-1)*pageSize : n*pageSize]
		isIntact := func() bool { return bits.OnesCount64(xxh3.Hash(page)^sums[n]) <= 1 }
		isExact = w.pages[n] != nil || isIntact() || unflip(page, isIntact)
	}
	for n, content := range w.pages {
		db = append(db, make([]byte, max(0, n*pageSize-len(db)))...)
		copy(db[(n-1)*pageSize:], content)
	}
	if len(db) >= pageSize {
		db[18], db[19] = 1, 1 // the file needs no log
	}
	err = vfs.Replace(f.image(), filepath.Dir(f.path), "catalog-*", db)
	for _, suffix := range []string{"-wal", "-sums", ""} {
		if err == nil {
			err = ignoreMissing(os.Rename(f.path+suffix, f.path+time.Now().UTC().Format("-damaged-20060102T150405")+suffix))
		}
	}
	return isExact, err
}

// rebuild fills the new database from the image that salvage wrote. If that is not exact, it also uses the tables' metadata files.
func (c *Catalog) rebuild(ctx context.Context) error {
	err := c.importRows(ctx)
	if err == nil && !c.isExact {
		c.log.Warn("parts of the catalog are lost: all commits that are not in metadata files, and names of tables")
		err = c.importMetadata(ctx)
	}
	if err == nil {
		c.log.Warn("the catalog was rebuilt, and the damaged files were renamed", "dir", c.database.dir)
		err = os.Remove(c.files.image())
	}
	return err
}

// importRows copies all readable rows of the image.
func (c *Catalog) importRows(ctx context.Context) error {
	from, err := sql.Open(sqliteDriver, c.files.image())
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	names, err := c.strings(ctx, `SELECT name FROM sqlite_master WHERE type='table'`)
	for _, name := range names {
		err = cmp.Or(err, c.inTx(ctx, func(t *transaction) {
			if name != "partd_info" { // whose new rows remain unless there are others
				t.exec(`DELETE FROM ` + name)
			}
			err := query(ctx, from, func(rows *sql.Rows) error {
				columns, err := rows.Columns()
				values, pointers := make([]any, len(columns)), make([]any, len(columns))
				for i := range values {
					pointers[i] = &values[i]
				}
				if err = cmp.Or(err, rows.Scan(pointers...)); err == nil {
					t.exec(`INSERT OR REPLACE INTO `+name+` VALUES (?`+strings.Repeat(",?", len(values)-1)+`)`, values...)
				}
				return err
			}, `SELECT * FROM `+name)
			if err != nil {
				c.log.Warn("rows of the catalog are lost", "kind", name, "err", err)
			}
		}))
	}
	return err
}

// importMetadata makes each table's newest metadata file current. It adds tables that are not in the catalog.
func (c *Catalog) importMetadata(ctx context.Context) error {
	files, err := c.listFiles(ctx)
	if err != nil {
		return err
	}
	newest := map[string]string{} // paths of metadata files, by table directory
	for path := range files {
		if dir := c.tableDir(path); strings.HasSuffix(path, ".metadata.json") && metadataVersion(path) >= metadataVersion(newest[dir]) {
			newest[dir] = path
		}
	}
	return c.inTx(ctx, func(t *transaction) {
		for _, location := range t.strings(`SELECT metadata_location FROM iceberg_tables`) {
			path, err := c.local(location)
			dir := c.tableDir(path)
			found := newest[dir]
			delete(newest, dir)
			if _, exists := files[path]; err == nil && found != "" && (!exists || c.follows(ctx, c.locationOf(found), location)) {
				t.exec(`UPDATE iceberg_tables SET metadata_location=? WHERE metadata_location=?`, c.locationOf(found), location)
			}
		}
		for dir, path := range newest {
			if _, _, err := c.loadFile(ctx, "", "", c.locationOf(path)); err == nil {
				t.exec(insertNamespace, recoveredNamespace)
				t.exec(insertTable, recoveredNamespace, filepath.Base(dir), c.locationOf(path))
			}
		}
	})
}

// follows reports whether the metadata at a location says that it was made from the metadata at an older location.
func (c *Catalog) follows(ctx context.Context, location, older string) bool {
	t, _, err := c.loadFile(ctx, "", "", location)
	if err != nil {
		return false
	}
	for previous := range t.Metadata().PreviousFiles() {
		if previous.MetadataFile == older {
			return true
		}
	}
	return false
}
