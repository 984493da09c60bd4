// Command modzip adds the module in the directory DIR to the files of a module proxy in the directory PROXY:
//
//	modzip PROXY VERSION TIME DIR
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: modzip PROXY VERSION TIME DIR")
		os.Exit(2)
	}
	if err := add(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "modzip:", err)
		os.Exit(1)
	}
}

func add(proxy, version, time, dir string) error {
	goMod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	m := module.Version{Path: modfile.ModulePath(goMod), Version: version}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]string{"Version": version, "Time": time})
	if err != nil {
		return err
	}
	versionDir := filepath.Join(proxy, escaped, "@v")
	if err := os.MkdirAll(versionDir, 0o777); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(versionDir, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(zip.CreateFromDir(file, m, dir), file.Close(),
		os.WriteFile(filepath.Join(versionDir, version+".mod"), goMod, 0o666),
		os.WriteFile(filepath.Join(versionDir, version+".info"), info, 0o666),
		os.WriteFile(filepath.Join(versionDir, "list"), []byte(version+"\n"), 0o666))
}
