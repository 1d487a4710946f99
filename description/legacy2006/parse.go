package legacy2006

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// document is what an old description says.
type document struct {
	fsys  fs.FS
	dir   string // of the description, in fsys
	label string // the name of config.xml

	at        Position // of the top element
	settings  []setting
	variables map[string]string // all keys of <image>, which scripts find in their environment
	sources   []source
	packages  []named // <entry name=>
	xen       []named // <xenvm>
	bootstrap []named // <cpios>
	version   named
	scripts   []script
	manager   string

	warnings []*Problem
	errors   Errors
}

// setting is one attribute of <image>.
type setting struct {
	Position
	key, value string
}

// source is one <entry source=>.
type source struct {
	Position
	address, kind string
}

// named is a name and where it stands.
type named struct {
	Position
	name string
}

func (d *document) fail(at Position, hint, format string, args ...any) {
	d.errors = append(d.errors, &Problem{at, fmt.Sprintf(format, args...), hint})
}

func (d *document) warn(at Position, hint, format string, args ...any) {
	d.warnings = append(d.warnings, &Problem{at, fmt.Sprintf(format, args...), hint})
}

// parse reads config.xml. It reports false if that is not XML.
func (d *document) parse(data []byte) bool {
	decoder := newDecoder(data)
	depth, kind := 0, ""
	for {
		line, column := decoder.InputPos()
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			line, column = decoder.InputPos()
			var syntax *xml.SyntaxError
			text := err.Error()
			if errors.As(err, &syntax) {
				line, column, text = syntax.Line, 1, syntax.Msg
			}
			d.fail(Position{d.label, line, column}, "", "the file is not well-formed XML: %s", text)
			return false
		}
		at := Position{d.label, line, column}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			switch {
			case depth == 1:
				d.at = at
				d.unknownAttributes(t, at)
			case depth == 2:
				d.element(t, at, &kind)
			default:
				d.warn(at, "", "<%s> has no meaning inside of another element", t.Name.Local)
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if text := strings.TrimSpace(string(t)); text != "" {
				d.warn(at, "", "text has no meaning here")
			}
		}
	}
}

// element reads an element below <directory>. kind is the type of repository that the last <entry type=> has named.
func (d *document) element(e xml.StartElement, at Position, kind *string) {
	switch e.Name.Local {
	case "image":
		for _, a := range e.Attr {
			d.settings = append(d.settings, setting{at, a.Name.Local, strings.TrimSpace(a.Value)})
			d.variables[a.Name.Local] = a.Value
		}
	case "entry":
		for _, a := range e.Attr {
			if a.Name.Local == "type" {
				*kind = a.Value
			}
		}
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "type":
			case "source":
				d.sources = append(d.sources, source{at, a.Value, *kind})
			case "name":
				d.packages = append(d.packages, named{at, a.Value})
			default:
				d.warn(at, "known are type, source and name", "the attribute %s of <entry> has no meaning", a.Name.Local)
			}
		}
	case "xenvm":
		d.xen = append(d.xen, d.names(e, at)...)
	case "cpios":
		d.bootstrap = append(d.bootstrap, d.names(e, at)...)
	default:
		d.fail(at, "known are image, entry, xenvm and cpios", "unknown element <%s>", e.Name.Local)
	}
}

// names returns the attribute name of an element that has no others.
func (d *document) names(e xml.StartElement, at Position) (list []named) {
	for _, a := range e.Attr {
		if a.Name.Local == "name" {
			list = append(list, named{at, a.Value})
			continue
		}
		d.warn(at, "known is name", "the attribute %s of <%s> has no meaning", a.Name.Local, e.Name.Local)
	}
	if len(list) == 0 {
		d.fail(at, "", "<%s> needs the attribute name", e.Name.Local)
	}
	return list
}

func (d *document) unknownAttributes(e xml.StartElement, at Position) {
	for _, a := range e.Attr {
		d.warn(at, "", "the attribute %s of <%s> has no meaning", a.Name.Local, e.Name.Local)
	}
}

// readVersion reads the file VERSION.
func (d *document) readVersion() {
	at := Position{path.Join(path.Dir(d.label), "VERSION"), 1, 1}
	const hint = "write a version of the form Major.Minor.Release, such as 1.1.2, into it"
	data, err := read(d.fsys, path.Join(d.dir, "VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		d.fail(at, hint, "the description has no file VERSION")
		return
	}
	if err != nil {
		d.fail(at, hint, "reading the version: %v", err)
		return
	}
	d.version = named{at, strings.TrimSpace(string(data))}
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(d.version.name) {
		d.fail(at, hint, "%.40q is not a version", d.version.name)
	}
}

// script is a script of the old description.
type script struct {
	name string // as in the description
	file File
}

// readScripts reads config.sh, images.sh and the scripts in config/.
func (d *document) readScripts() {
	for _, name := range []string{"config.sh", "images.sh"} {
		d.readScript(name)
	}
	entries, err := fs.ReadDir(d.fsys, path.Join(d.dir, "config"))
	if err != nil {
		return // there need not be one
	}
	for _, e := range entries { // in the order of their names
		d.readScript("config/" + e.Name())
		all := slices.Concat(d.packages, d.xen, d.bootstrap)
		if !slices.ContainsFunc(all, func(p named) bool { return p.name == e.Name() }) {
			d.warn(d.place("config/"+e.Name()), "", "the description has no package %s: the script runs only if the package is installed for another one", e.Name())
		}
	}
}

func (d *document) readScript(name string) {
	data, err := read(d.fsys, path.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		d.fail(d.place(name), "", "reading the script: %v", err)
		return
	}
	mode := fs.FileMode(0o644)
	if info, err := fs.Stat(d.fsys, path.Join(d.dir, name)); err == nil {
		mode = info.Mode().Perm()
	}
	d.scripts = append(d.scripts, script{name, File{data, mode}})
}

// place is the beginning of a file of the description.
func (d *document) place(name string) Position {
	return Position{path.Join(path.Dir(d.label), name), 1, 1}
}
