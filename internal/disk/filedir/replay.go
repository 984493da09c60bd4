package filedir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// replay completes or undoes the operation that a record in the journal describes.
type replay struct {
	*env
	tree     *tree
	staging  *staging
	sessions *sessionFile
	journal  *journal
	record   *record
}

// run completes the recorded change or, if it is an append, undoes it. Then it updates the session's slot.
func (r *replay) run() (err error) {
	record := r.record
	isAppend := record.kind == kindAppend
	r.log.Info("partd: completing or undoing an interrupted change", "dir", r.dir, "undo", isAppend, "files", len(record.spans))
	applied := !isAppend
	for i := range record.spans {
		s := &record.spans[i]
		if s.progress != 0 && s.progress == r.boot {
			continue
		}
		switch record.kind {
		case kindAppend:
			err = r.undo(s, i)
		case kindSet:
			applied, err = r.redoSet(s)
		default:
			err = r.redoRemove(s)
		}
		if err != nil {
			return fmt.Errorf("completing or undoing the change that %s describes: %w", r.path(names.Journal), err)
		}
	}
	if err := r.sessions.finishTag(record.tag, applied); err != nil {
		return err
	}
	if r.sync || record.synced {
		return r.refuseWrites(r.syncFinished())
	}
	if isAppend {
		for i := range record.spans {
			r.tree.cache.dirty.add(r.path(record.spans[i].name))
		}
	}
	return nil
}

// syncFinished makes the effect of run durable. Call it before clearing the record.
func (r *replay) syncFinished() error {
	if r.failure != nil {
		return nil
	}
	for i := range r.record.spans {
		r.tree.markNamesDirty(r.record.spans[i].name) // the killed process may have changed names in subdirectories without syncing them
		if r.record.kind == kindAppend {
			if err := r.tree.cache.syncPath(r.path(r.record.spans[i].name)); err != nil {
				return err
			}
		}
	}
	if r.record.tag != nil && r.sessions.file != nil {
		if err := r.sessions.file.Sync(); err != nil {
			return err
		}
	}
	return r.tree.syncNames()
}

func (r *replay) mayHaveRebooted() bool { return r.record.boot == 0 || r.record.boot != r.boot }

// undo removes the bytes that an append added to the file of s, which is span i of the record. It
// keeps bytes that another process appended afterwards.
func (r *replay) undo(s *span, i int) (err error) {
	path := r.path(s.name)
	file, err := r.tree.cache.open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || err != nil && r.isDir(path) { // a directory may have been created for a tuple key
		if s.created {
			return r.tree.removeKeyText(s.name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Info()
	if err != nil {
		return err
	}
	size := info.Size
	if s.progress == info.Ino { // an earlier undo already replaced this file
		return nil
	}
	if size > s.oldSize {
		end, err := r.appendEnd(s, file, path, size)
		if err != nil {
			return err
		}
		if end < size && end > s.oldSize {
			return r.removeRange(s, i, file, info.Mode, end, size)
		}
		if end == size {
			if err := file.Truncate(s.oldSize); err != nil {
				return err
			}
			size = s.oldSize
		}
	}
	if s.created && size == 0 {
		if err := r.tree.removeValue(s.name); err != nil {
			return err
		}
	}
	if r.boot == 0 {
		return nil
	}
	return r.recordProgress(i, r.boot)
}

// minProof is how many bytes must match before undo removes the append's bytes and keeps the bytes
// that follow. Fewer bytes could match by chance.
const minProof = 16

// appendEnd returns the end of the bytes that the append added to the file. Any bytes after that
// were appended by another process.
func (r *replay) appendEnd(s *span, file vfs.File, path string, size int64) (int64, error) {
	end := s.oldSize + s.addSize
	matchEnd, err := s.matchEnd(file, size)
	if err != nil {
		return 0, err
	}
	if matchEnd == end || matchEnd == size {
		return matchEnd, nil
	}
	corrupt := func(off int64) error {
		return r.corrupt(path, off, fmt.Errorf(
			"the bytes at offset %d do not match the interrupted append, and may be corrupt: "+
				"check them, then truncate the file (truncate --size=%d) or leave it unchanged, and remove %s",
			off, s.oldSize, r.path(names.Journal)))
	}
	if !r.mayHaveRebooted() {
		// The write of a process that died ends at a multiple of the page size; any bytes after
		// that are from another process. A write that failed, and whose undo failed too, may end
		// anywhere.
		if matchEnd > s.oldSize && matchEnd%pageSize != 0 && size < min(end, pieceEnd(matchEnd)) {
			return size, nil
		}
		if matchEnd > s.oldSize && matchEnd-s.oldSize < minProof {
			return 0, corrupt(matchEnd)
		}
		return matchEnd, nil
	}
	// The power may have failed, so blocks of the append may be missing.
	if size <= end {
		if r.record.synced {
			return size, nil
		}
		zero, err := allZero(file, matchEnd, size)
		if err != nil {
			return 0, err
		}
		if zero {
			return size, nil
		}
	}
	return 0, corrupt(matchEnd)
}

// removeRange replaces the file with a copy that lacks the bytes [s.oldSize, cut). size is the file's
// length.
func (r *replay) removeRange(s *span, i int, file vfs.File, mode fs.FileMode, cut, size int64) error {
	r.log.Warn("partd: keeping bytes that another process appended after an interrupted append",
		"file", file.Name(), "from", cut, "to", size)
	tmp, err := r.staging.create(mode.Perm())
	if err != nil {
		return err
	}
	err = copyRange(tmp, 0, file, 0, s.oldSize)
	if err == nil {
		err = copyRange(tmp, s.oldSize, file, cut, size)
	}
	if err == nil && (r.sync || r.record.synced) {
		err = tmp.Sync()
	}
	var info vfs.Info
	if err == nil {
		info, err = tmp.Info()
	}
	err = errors.Join(err, tmp.Close())
	if err != nil {
		return err
	}
	// Record the progress before the rename. Otherwise, a repeated undo could also remove the kept
	// bytes, if they happen to equal bytes of the append.
	if err := r.recordProgress(i, info.Ino); err != nil {
		return err
	}
	if (r.sync || r.record.synced) && r.failure == nil {
		if err := r.refuseWrites(r.journal.file.Sync()); err != nil {
			return err
		}
	}
	return r.fs.Rename(r.path(names.Temp), r.path(s.name))
}

// recordProgress records the undo progress of span i in the journal.
func (r *replay) recordProgress(i int, progress uint64) error {
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], progress)
	_, err := r.journal.file.WriteAt(p[:], r.record.progress+8*int64(i))
	return err
}

// redoRemove removes a file of an interrupted Delete or Drop, unless another process changed the
// file afterwards.
func (r *replay) redoRemove(s *span) error {
	info, err := r.fs.Info(r.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return r.tree.removeKeyText(s.name)
	}
	if err != nil {
		return err
	}
	// A power loss can also lose a file's modification time.
	if info.Ino != s.ino || info.Size != s.size || info.MTime != s.mtime && !r.mayHaveRebooted() {
		r.log.Warn("partd: keeping a file that should have been removed, because another process changed it", "file", r.path(s.name))
		return nil
	}
	return r.tree.removeValue(s.name)
}

// redoSet completes an interrupted Set and reports whether the new value is in place. If a power
// loss removed the temporary file, the old value stays.
func (r *replay) redoSet(s *span) (bool, error) {
	staged, err := r.fs.Info(r.path(names.Temp))
	if err == nil && staged.Ino == s.ino {
		return true, r.staging.moveTo(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !r.mayHaveRebooted() {
		return true, nil // without a restart, only the rename can have removed the temporary file
	}
	info, err := r.fs.Info(r.path(s.name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Ino == s.ino, err
}
