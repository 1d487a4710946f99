package legacy2006

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// FS returns the files of the upgraded description: those of fsys, the old one's directory, with [Upgraded.Files] over them.
func (u *Upgraded) FS(fsys fs.FS) fs.FS { return overlaid{fsys, u.Files} }

// overlaid is a file system with some files over it, which hide those of the same name. It implements [fs.ReadDirFS].
type overlaid struct {
	fs.FS
	files map[string]File
}

// Open implements [fs.FS].
func (o overlaid) Open(name string) (fs.File, error) {
	if file, ok := o.files[name]; ok {
		return &openFile{bytes.NewReader(file.Data), newInfo(name, file)}, nil
	}
	if !o.folder(name) {
		return o.FS.Open(name)
	}
	entries, err := o.ReadDir(name)
	if err != nil {
		return nil, err
	}
	return &openDir{info: info{name: path.Base(name), mode: fs.ModeDir | 0o755}, entries: entries}, nil
}

// folder reports whether one of the files lies in a folder.
func (o overlaid) folder(dir string) bool {
	for name := range o.files {
		if dir == "." || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// ReadDir implements [fs.ReadDirFS].
func (o overlaid) ReadDir(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, dir)
	if err != nil && !o.folder(dir) {
		return nil, err
	}
	for name, file := range o.files {
		rest := name
		if dir != "." {
			var inside bool
			if rest, inside = strings.CutPrefix(name, dir+"/"); !inside {
				continue
			}
		}
		entry := fs.FileInfoToDirEntry(newInfo(name, file))
		if first, _, deeper := strings.Cut(rest, "/"); deeper {
			entry = fs.FileInfoToDirEntry(info{name: first, mode: fs.ModeDir | 0o755})
		}
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == entry.Name() })
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// info describes a file that was made of others. Its time is the same in each build.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func newInfo(name string, file File) info {
	return info{path.Base(name), int64(len(file.Data)), file.Mode.Perm()}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Unix(0, 0) }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

type openFile struct {
	*bytes.Reader
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info    info
	entries []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: fs.ErrInvalid}
}

// ReadDir implements [fs.ReadDirFile].
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	head := d.entries[:n]
	d.entries = d.entries[n:]
	return head, nil
}
