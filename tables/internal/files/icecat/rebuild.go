package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/bits"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// recoveredNamespace contains rebuilt tables whose names are lost.
const recoveredNamespace = "recovered"

// imageFile is the database file that salvage writes. It is removed when the rebuild is complete.
const imageFile = "catalog-rebuild.db"

func (f *sqliteFiles) image() string { return filepath.Join(filepath.Dir(f.path), imageFile) }

// salvage writes the image, unless an interrupted rebuild has already done so, and renames the damaged files. It
// reports whether the image is known to be complete.
func (f *sqliteFiles) salvage() (isExact bool, err error) {
	if !isFile(f.image()) {
		isExact, err = f.writeImage()
		if err != nil {
			return false, err
		}
	}
	damaged := f.path + time.Now().UTC().Format("-damaged-20060102T150405.000")
	for _, suffix := range []string{"-wal", "-sums", ""} {
		if err == nil {
			err = ignoreMissing(os.Rename(f.path+suffix, damaged+suffix))
		}
	}
	return isExact, err
}

// writeImage writes the newest content of all pages to the image. It repairs pages in which a single bit has changed.
// It reports whether all pages are then intact.
func (f *sqliteFiles) writeImage() (isExact bool, err error) {
	db, dbErr := os.ReadFile(f.path)
	sums, sumsErr := f.sums()
	if err := cmp.Or(ignoreMissing(dbErr), sumsErr); err != nil {
		return false, err
	}
	w, err := readWAL(f.path+"-wal", readPages)
	if errors.Is(err, ErrContent) {
		w, _ = readWAL(f.path+"-wal", salvageLog)
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
	if missing := (len(sums)-1)*pageSize - len(db); missing > 0 { // SQLite reads no rows from a file that is too short
		db, isExact = append(db, make([]byte, missing)...), false
	}
	if len(db) >= pageSize {
		db[18], db[19] = 1, 1 // the file needs no log
	}
	return isExact, vfs.Replace(f.image(), filepath.Dir(f.path), "catalog-*", db)
}

// rebuild fills the new database from the image that salvage wrote. If the image is not exact, it also uses the tables'
// metadata files.
func (c *Catalog) rebuild(ctx context.Context) error {
	err := c.importRows(ctx)
	for key, value := range map[string]*string{"made-in": &c.originalDir, "id": &c.id} {
		if err == nil {
			*value, err = c.firstString(ctx, `SELECT value FROM partd_info WHERE key=?`, key)
		}
	}
	if err == nil && !c.isExact {
		c.log.Warn("parts of the catalog are lost: all commits that are not in metadata files, and names of tables")
		err = c.importMetadata(ctx)
	}
	if err == nil {
		c.log.Warn("the catalog was rebuilt, and the damaged files were renamed", "dir", c.sealer.dir, "complete", c.isExact)
	}
	return err
}

// EndRebuild must be called after a rebuild and RestoreID. Until then, an interrupted rebuild continues.
func (c *Catalog) EndRebuild() error {
	if !c.isRebuilding {
		return nil
	}
	return os.Remove(c.files.image())
}

// RestoreID sets the warehouse's ID if a rebuild may have lost it. If id is empty, it changes nothing.
func (c *Catalog) RestoreID(ctx context.Context, id string) error {
	if !c.isRebuilding || c.isExact || id == "" {
		return nil
	}
	c.id = id
	return c.inTx(ctx, func(t *transaction) { t.putInfo("id", id) })
}

// importRows copies the rows in the image that SQLite can still read.
func (c *Catalog) importRows(ctx context.Context) error {
	file := url.URL{Scheme: "file", Path: c.files.image()}
	image, err := sql.Open("sqlite", file.String()+"?mode=ro")
	if err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // opened only for reading
	names, err := c.queryStrings(ctx, `SELECT name FROM sqlite_master WHERE type='table'`)
	for _, name := range names {
		err = cmp.Or(err, c.inTx(ctx, func(t *transaction) {
			if name == "partd_unlisted" {
				t.exec(`DELETE FROM partd_unlisted`) // triggers have filled it
			}
			if err := copyRows(t, image, name); err != nil {
				c.log.Warn("rows of the catalog are lost", "table", name, "err", err)
				c.isExact = false
			}
		}))
	}
	return err
}

// copyRows copies a table's rows until one cannot be read. It then returns the error.
func copyRows(t *transaction, image *sql.DB, name string) error {
	return query(t.ctx, image, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		err = cmp.Or(err, rows.Scan(targets...))
		if err == nil {
			t.exec(`INSERT OR REPLACE INTO `+name+` VALUES (?`+strings.Repeat(",?", len(columns)-1)+`)`, values...)
		}
		return err
	}, `SELECT * FROM `+name)
}

// importMetadata makes each table's newest metadata file current. It adds tables that are not in the catalog.
func (c *Catalog) importMetadata(ctx context.Context) error {
	files, err := c.listFiles(ctx)
	newest := map[string]string{} // paths of readable metadata files, by table directory
	for path := range files {
		dir := c.tableDir(path)
		if strings.HasSuffix(path, ".metadata.json") && (newest[dir] == "" || metadataVersion(path) > metadataVersion(newest[dir])) {
			if _, _, err := c.loadFile(ctx, "", "", c.locationOf(path)); err == nil { // the newest file may never have been synced
				newest[dir] = path
			}
		}
	}
	return cmp.Or(err, c.inTx(ctx, func(t *transaction) {
		recorded := map[string]string{} // locations of metadata files, by table directory
		for _, location := range t.queryStrings(`SELECT metadata_location FROM iceberg_tables`) {
			recorded[c.TableDir(location)] = location
		}
		for dir, path := range newest {
			location, old := c.locationOf(path), recorded[dir]
			oldPath, _ := c.local(old)
			_, exists := files[oldPath]
			if exists && metadataVersion(old) >= metadataVersion(path) {
				continue
			}
			t.exec(`UPDATE iceberg_tables SET metadata_location=? WHERE metadata_location=?`, location, old)
			if old == "" {
				t.exec(insertNamespace, recoveredNamespace)
				t.exec(insertTable, recoveredNamespace, filepath.Base(dir), location)
			}
		}
	}))
}
