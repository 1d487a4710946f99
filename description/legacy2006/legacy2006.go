// Package legacy2006 reads image descriptions in KIWI's first format, of July 2006, and makes of them descriptions in the format of today.
//
// Such a description is a directory with a file VERSION and a config.xml of this form:
//
//	<directory>
//	  <image name="browser"/> <image type="ext3"/> ...
//	  <entry type="yast2"/> <entry source="/image/CDs/full-i386"/> <entry name="bash"/> ...
//	  <xenvm name="kernel-xen"/> <cpios name="filesystem"/>
//	</directory>
//
// and, as today, root/, config.sh and images.sh beside it, and config/ with scripts that are named after packages. The format is described in
// "OpenSuSE - KIWI Image System", revision 1.2 of July 19, 2006, section 2.1.
package legacy2006

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxFile bounds config.xml and each script, in bytes.
const maxFile = 1 << 20

// Position is a place in a file: its line and column, from 1. A line of 0 is the file as a whole.
type Position struct {
	File         string
	Line, Column int
}

// Problem is one thing that is wrong, or that has no meaning any more.
type Problem struct {
	Position
	Text string // what it is, one clause without a full stop
	Hint string // what to do about it; may be empty
}

// Error implements error.
func (p *Problem) Error() string {
	text := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	return text
}

// Errors is everything that is wrong with a description. It is never empty when returned as an error.
type Errors []*Problem

// Error implements error: one line each.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As access to each of them.
func (es Errors) Unwrap() []error {
	list := make([]error, len(es))
	for i, e := range es {
		list[i] = e
	}
	return list
}

// Upgraded is a description in the format of today.
type Upgraded struct {
	// XML is the description, of schema 7.6.
	XML []byte
	// Lines are the places in the old description that the lines of XML come from.
	Lines []Position
	// Warnings are the parts that have no meaning any more, or another one.
	Warnings []*Problem
	// Files are the files that belong beside the description, by name: scripts that run the old ones.
	Files map[string]File
}

// File is a file of an upgraded description.
type File struct {
	Data []byte
	Mode fs.FileMode // permissions
}

// Is reports whether a file of a description is in the format of 2006.
func Is(fsys fs.FS, file string) bool {
	data, err := read(fsys, file)
	if err != nil {
		return false
	}
	decoder := newDecoder(data)
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		if start, ok := token.(xml.StartElement); ok {
			return start.Name.Local == "directory"
		}
	}
}

// Upgrade reads the description in a file of fsys, which label names in errors. What is wrong with it is of type [Errors].
func Upgrade(fsys fs.FS, file, label string) (*Upgraded, error) {
	data, err := read(fsys, file)
	if err != nil {
		return nil, fmt.Errorf("reading description %s: %w", label, err)
	}
	d := &document{fsys: fsys, dir: path.Dir(file), label: label, variables: map[string]string{}}
	if !d.parse(data) {
		return nil, d.errors
	}
	d.readVersion()
	d.readScripts()
	u := d.upgrade()
	if len(d.errors) > 0 {
		slices.SortStableFunc(d.errors, byPosition)
		return nil, d.errors
	}
	slices.SortStableFunc(d.warnings, byPosition)
	u.Warnings = d.warnings
	return u, nil
}

func byPosition(a, b *Problem) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

func read(fsys fs.FS, file string) ([]byte, error) {
	info, err := fs.Stat(fsys, file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", info.Size(), maxFile)
	}
	return fs.ReadFile(fsys, file)
}

func newDecoder(data []byte) *xml.Decoder {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	decoder.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		switch strings.ToLower(charset) {
		case "iso-8859-1", "iso-8859-15", "latin1", "us-ascii", "ascii":
			text, err := io.ReadAll(io.LimitReader(input, maxFile))
			runes := make([]rune, len(text))
			for i, c := range text {
				runes[i] = rune(c)
			}
			return strings.NewReader(string(runes)), err
		}
		return nil, fmt.Errorf("encoding %q is not supported; save the file as UTF-8", charset)
	}
	return decoder
}
