package rpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// The tags by which a database differs from one build to the next.
const (
	tagInstallTime = 1008 // when the package was installed
	tagInstallTID  = 1128 // which transaction did it, which is a time too
)

// importDir is where rpm writes the new database, in a sandbox.
const importDir = "/run/imgbuild/rpmdb"

// RewriteOptions are what Rewrite works with.
type RewriteOptions struct {
	Tree *layers.Tree
	// Inside runs a program of the root tree in it, Outside one of this machine.
	Inside, Outside func(ctx context.Context, spec sandbox.Spec) error
	// Workdir is an existing directory for temporary files.
	Workdir string
	// Time is when the packages are to have been installed.
	Time time.Time
	Log  *slog.Logger
}

// Rewrite has rpm write the database of a tree anew, so that its bytes depend on nothing but the packages and the order in which they came. It returns
// what to change in the tree, nil if there is no database.
func Rewrite(ctx context.Context, opts RewriteOptions) (change func(*layers.Editor) error, err error) {
	dir, file := Find(opts.Tree)
	if dir == "" {
		return nil, nil
	}
	seconds := opts.Time.Unix()
	if seconds < 0 || seconds > math.MaxUint32 {
		return nil, fmt.Errorf("writing the package database anew: rpm can't note the time %s", opts.Time.UTC().Format(time.RFC3339))
	}
	stream, err := export(opts.Tree, dir, file, uint32(seconds))
	if err != nil {
		return nil, fmt.Errorf("writing the package database anew: %w", err)
	}
	work, err := os.MkdirTemp(opts.Workdir, ".rpmdb-")
	if err != nil {
		return nil, fmt.Errorf("writing the package database anew: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	run := opts.Outside
	if scripts.FindProgram(opts.Tree, "rpmdb") != "" {
		run = opts.Inside
	}
	spec := sandbox.Spec{
		Args: []string{"rpmdb", "--dbpath", importDir, "--importdb"}, Stdin: bytes.NewReader(stream), NoNetwork: true, Log: opts.Log, Binds: []sandbox.Bind{{Source: work, Target: importDir}},
	}
	Configure(&spec, Macros(importDir, description.RPMSettings{}, nil))
	if err := run(ctx, spec); err != nil {
		return nil, fmt.Errorf("writing the package database anew: %w", err)
	}
	files, err := readFiles(work)
	if err != nil {
		return nil, fmt.Errorf("writing the package database anew: %w", err)
	}
	if files[file] == nil {
		opts.Log.Info("the package database depends on when packages were installed: this rpm writes it in another form", "form", file)
		return nil, nil
	}
	return func(edit *layers.Editor) error { return replaceFiles(edit, dir, files) }, nil
}

// export returns the headers of a database as "rpmdb --importdb" reads them, all with one time of installation.
func export(tree *layers.Tree, dir, file string, seconds uint32) ([]byte, error) {
	data, log, err := readDatabase(tree, dir+"/"+file)
	if err != nil {
		return nil, err
	}
	var stream bytes.Buffer
	err = eachHeader(file, data, log, func(blob []byte) error {
		blob = bytes.Clone(blob)
		h, err := parseHeader(blob)
		if err != nil {
			return err
		}
		for _, tag := range []uint32{tagInstallTime, tagInstallTID} {
			if e := h.entries[tag]; e.kind == typeInt32 && e.count > 0 && int64(e.offset)+4 <= int64(len(h.data)) {
				binary.BigEndian.PutUint32(h.data[e.offset:], seconds)
			}
		}
		stream.WriteString(headerMagic + "\x00\x00\x00\x00")
		stream.Write(blob)
		return nil
	})
	return stream.Bytes(), err
}

// readFiles reads the files that rpm has written, but for its lock and SQLite's shared memory.
func readFiles(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == ".rpm.lock" || strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			files[e.Name()] = data
		}
	}
	return files, nil
}

// replaceFiles puts files in the place of all that are in a directory.
func replaceFiles(edit *layers.Editor, dir string, files map[string][]byte) error {
	_, node, err := edit.Resolve(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if node != nil {
		for _, name := range node.Names() {
			if node.Child(name).IsRegular() {
				if err := edit.Remove(dir + "/" + name); err != nil {
					return err
				}
			}
		}
	}
	for name, data := range files {
		if err := edit.WriteFile(dir+"/"+name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
