package description

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description/legacy2006"
)

// LoadOptions says how a description is found.
type LoadOptions struct {
	// File is the name of the description's file in its directory. When
	// empty it is config.xml, image/config.xml, or the first *.kiwi.
	File string
}

// Document is a description that has been read, upgraded and found valid.
type Document struct {
	// Dir is the directory of the description on this machine; empty when it
	// was loaded from a file system value. FS gives its files in any case.
	Dir string
	FS  fs.FS
	// File is the name of the description's file, relative to FS.
	File string
	// Format is the language of that file.
	Format Format
	// Written is the schema version that the description was written in.
	Written string
	// Included are the files that it includes, as errors name them.
	Included []string
	// Warnings are parts of the description that have no effect: settings that
	// newer schemas dropped, and text where none belongs.
	Warnings []*Error

	root    *element
	version version
}

// Load reads the description of a directory, or the description file itself.
// No part of it is read from outside the directory, except what it includes
// by an absolute file:/// path. Its errors are Errors, or an error of the file
// system when there is no description.
func Load(dir string, opts LoadOptions) (*Document, error) {
	if st, err := os.Stat(dir); err == nil && st.Mode().IsRegular() && opts.File == "" {
		dir, opts.File = filepath.Dir(dir), filepath.Base(dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening description %s: %w", dir, err)
	}
	l := &loader{fsys: root.FS(), dir: dir, label: dir, absolute: true}
	return l.load(opts)
}

// LoadFS reads a description from a file system, such as the /image directory
// of a root tree that was never unpacked. label stands before the names of its
// files in errors. Nothing outside fsys is read, whatever the description says.
func LoadFS(fsys fs.FS, label string, opts LoadOptions) (*Document, error) {
	l := &loader{fsys: fsys, label: label}
	return l.load(opts)
}

// loader reads the files of one description.
type loader struct {
	fsys     fs.FS
	dir      string   // "" when fsys is not a directory of this machine
	label    string   // stands before file names in errors
	absolute bool     // absolute paths of includes are allowed
	parts    []string // files that have been included
	size     int      // bytes read so far
}

// maxTotalSize bounds what a description is with all its includes, in bytes.
const maxTotalSize = 16 << 20

func (l *loader) load(opts LoadOptions) (*Document, error) {
	file, err := l.find(opts.File)
	if err != nil {
		return nil, err
	}
	// The files of image/config.xml lie beside it.
	if dir := path.Dir(file); opts.File == "" && dir != "." {
		if l.fsys, err = fs.Sub(l.fsys, dir); err != nil {
			return nil, fmt.Errorf("opening description %s: %w", l.name(dir), err)
		}
		l.label = l.name(dir)
		if l.dir != "" {
			l.dir = filepath.Join(l.dir, dir)
		}
		file = path.Base(file)
	}
	if legacy2006.Is(l.fsys, file) {
		return l.loadLegacy(file)
	}
	data, err := l.read(file)
	if err != nil {
		return nil, err
	}
	root, format, err := parse(l.name(file), data)
	if err != nil {
		return nil, err
	}
	doc := &Document{Dir: l.dir, FS: l.fsys, File: file, Format: format}
	if err := l.include(root); err != nil {
		return nil, err
	}
	doc.Included = l.parts
	if err := doc.bringUp(root); err != nil {
		return nil, err
	}
	return doc, nil
}

// loadLegacy reads a description in the format of 2006. What of it has become
// scripts lies over its files in Document.FS.
func (l *loader) loadLegacy(file string) (*Document, error) {
	found := func(list []*legacy2006.Problem) Errors {
		var es Errors
		for _, p := range list {
			es.add(Position(p.Position), p.Hint, "%s", p.Text)
		}
		return es
	}
	old, err := legacy2006.Upgrade(l.fsys, file, l.name(file))
	var problems legacy2006.Errors
	if errors.As(err, &problems) {
		return nil, found(problems).err()
	}
	if err != nil {
		return nil, err
	}
	root, err := parseXML(l.name(file), old.XML)
	if err != nil {
		return nil, err
	}
	place := func(at *Position) {
		if at.Line > 0 && at.Line <= len(old.Lines) {
			*at = Position(old.Lines[at.Line-1])
		}
	}
	root.walk(func(e *element) {
		place(&e.pos)
		for i := range e.attrs {
			place(&e.attrs[i].pos)
		}
	})
	doc := &Document{Dir: l.dir, FS: old.FS(l.fsys), File: file, Format: FormatXML}
	if err := doc.bringUp(root); err != nil {
		return nil, err
	}
	doc.Written = "2006"
	doc.Warnings = append(found(old.Warnings), doc.Warnings...).sorted()
	return doc, nil
}

// bringUp upgrades and validates a tree whose includes have been resolved.
func (d *Document) bringUp(root *element) error {
	if root.name != imageRule.Name {
		errs, _ := validate(root, latestVersion)
		return errs.err()
	}
	written, ok := root.attr("schemaversion")
	if !ok {
		return problem(root.pos, fmt.Sprintf("add schemaversion=%q", v7_6), "<image> needs the attribute schemaversion")
	}
	v, err := parseVersion(written)
	pos := root.attrPos("schemaversion")
	switch {
	case err != nil:
		return problem(pos, "known are 5.0 to "+latestVersion.String(), "%v", err)
	case v < v5_0:
		return problem(pos, "upgrade the description with KIWI 7 first", "schema version %s is older than 5.0", written)
	case v > latestVersion:
		return problem(pos, "use a newer imgbuild, or a lower schemaversion",
			"schema version %s is newer than %s, the newest that is known here", written, latestVersion)
	case !v.exists():
		return problem(pos, "known are 5.0 to 5.9, 6.0 to 6.9, 7.0 to 7.6 and 8.0 to "+latestVersion.String(), "there is no schema version %s", written)
	}
	d.Written = strings.TrimSpace(written)
	d.version = v.target()
	u := &upgrader{root: root}
	u.upgrade(v, d.version)
	errs, warnings := validate(root, d.version)
	d.Warnings = append(u.warnings, warnings...).sorted()
	d.root = root
	return append(u.errors, errs...).err()
}

// name returns a file's name as the user knows it.
func (l *loader) name(file string) string {
	if l.label == "" || l.label == "." {
		return file
	}
	return filepath.Join(l.label, file)
}

// find returns the name of the description's file.
func (l *loader) find(file string) (string, error) {
	if file != "" {
		if !fs.ValidPath(filepath.ToSlash(file)) {
			return "", fmt.Errorf("finding the description: %q is not a path inside %s", file, l.label)
		}
		return filepath.ToSlash(file), nil
	}
	for _, candidate := range []string{"config.xml", "image/config.xml"} {
		if st, err := fs.Stat(l.fsys, candidate); err == nil && st.Mode().IsRegular() {
			return candidate, nil
		}
	}
	entries, err := fs.ReadDir(l.fsys, ".")
	if err != nil {
		return "", fmt.Errorf("reading description directory %s: %w", l.label, err)
	}
	for _, e := range entries { // in the order of their names
		if strings.HasSuffix(e.Name(), ".kiwi") && !e.IsDir() {
			return e.Name(), nil
		}
	}
	return "", fmt.Errorf("no description in %s: looked for config.xml, image/config.xml and *.kiwi: %w", l.label, fs.ErrNotExist)
}

// read returns a file of the description.
func (l *loader) read(file string) ([]byte, error) {
	return l.readFrom(l.fsys, file, l.name(file))
}

// readHost returns a file of this machine.
func (l *loader) readHost(file string) ([]byte, error) {
	return l.readFrom(os.DirFS("/"), strings.TrimPrefix(file, "/"), file)
}

// readFrom returns a regular file. It looks before it opens, since opening a
// pipe or a device may wait for ever.
func (l *loader) readFrom(fsys fs.FS, file, name string) ([]byte, error) {
	st, err := fs.Stat(fsys, file)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, fmt.Errorf("reading description %s: %w", name, rootCause(err))
	}
	f, err := fsys.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading description %s: %w", name, rootCause(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1)) // toUTF8 refuses one byte more
	if err != nil {
		return nil, fmt.Errorf("reading description %s: %w", name, rootCause(err))
	}
	if l.size += len(data); l.size > maxTotalSize {
		return nil, fmt.Errorf("reading description %s: the description is larger than %d MiB with its includes", name, maxTotalSize>>20)
	}
	return data, nil
}

// rootCause drops the repeated file name of a path error.
func rootCause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// include replaces each <include> of the top element by what the file holds.
func (l *loader) include(root *element) error {
	var errs Errors
	var children []node
	for _, c := range root.children {
		if c.elem == nil || c.elem.name != includeRule.Name {
			children = append(children, c)
			continue
		}
		from, ok := c.elem.attr("from")
		if !ok {
			errs.add(c.elem.pos, `write <include from="this://part.xml"/>`, "<include> needs the attribute from")
			continue
		}
		parts, err := l.included(from, c.elem.attrPos("from"))
		if err != nil {
			var found Errors
			if !errors.As(err, &found) {
				return err
			}
			errs = append(errs, found...)
			continue
		}
		children = append(children, parts...)
	}
	root.children = children
	return errs.err()
}

// included returns what stands inside the <image> of the file or files that
// an include names.
func (l *loader) included(from string, pos Position) ([]node, error) {
	files, read, err := l.includeFiles(from)
	if err != nil {
		return nil, problem(pos, "included files lie in the description's directory, or at file:///absolute/path", "%v", err)
	}
	var nodes []node
	for _, file := range files {
		data, err := read(file)
		if err != nil {
			return nil, problem(pos, "paths are relative to the description's directory", "including %q: %v", from, err)
		}
		name := file
		if !path.IsAbs(file) {
			name = l.name(file)
		}
		l.parts = append(l.parts, name)
		part, _, err := parse(name, data)
		if err != nil {
			return nil, err
		}
		if part.name != imageRule.Name {
			return nil, problem(part.pos, "put its parts into <image>...</image>", "an included file holds <%s>", part.name)
		}
		// An include in here stays as it is, for the check that finds it.
		nodes = append(nodes, part.children...)
	}
	return nodes, nil
}

// includeFiles returns the files that an include names, and how to read them.
func (l *loader) includeFiles(from string) ([]string, func(string) ([]byte, error), error) {
	name, absolute := includePath(from)
	if absolute {
		if !l.absolute {
			return nil, nil, fmt.Errorf("including %q: this description may not read files of this machine", from)
		}
		files, err := expandInclude(os.DirFS("/"), strings.TrimPrefix(path.Clean(name), "/"))
		for i := range files {
			files[i] = "/" + files[i]
		}
		return files, l.readHost, err
	}
	clean := path.Clean(name)
	if strings.Contains(name, "://") {
		return nil, nil, fmt.Errorf("including %q: only this:// and file:// are known", from)
	}
	if !fs.ValidPath(clean) {
		return nil, nil, fmt.Errorf("including %q: it is not inside the description's directory", from)
	}
	if clean == "." {
		return nil, nil, fmt.Errorf("including %q: it names no file", from)
	}
	files, err := expandInclude(l.fsys, clean)
	return files, l.read, err
}

// includePath returns the path of an include's URI and whether it is absolute.
func includePath(from string) (name string, absolute bool) {
	switch {
	case strings.HasPrefix(from, "this://"):
		return strings.TrimLeft(strings.TrimPrefix(from, "this://"), "/"), false
	case strings.HasPrefix(from, "file://"):
		name = strings.TrimPrefix(from, "file://")
	case strings.HasPrefix(from, "file:"):
		name = strings.TrimPrefix(from, "file:")
	default:
		name = from
	}
	return name, path.IsAbs(name)
}

// expandInclude turns a directory into its XML files.
func expandInclude(fsys fs.FS, name string) ([]string, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil || !st.IsDir() {
		return []string{name}, nil // a missing file is reported when it is read
	}
	entries, err := fs.ReadDir(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("including %q: %w", name, rootCause(err))
	}
	var files []string
	for _, e := range entries { // in the order of their names
		if strings.HasSuffix(e.Name(), ".xml") {
			files = append(files, path.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("including %q: the directory has no *.xml files", name)
	}
	return files, nil
}
