package users

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// maxFile bounds the account files that are read, in bytes.
const maxFile = 64 << 20

// table is a file of lines with fields between colons, such as passwd(5). Lines that it can't read stay as they are.
type table struct {
	name    string // its path in the tree
	fields  int    // of each line
	lines   [][]string
	there   bool
	changed bool
}

// readTable reads a file of the tree. One that is not there is empty.
func readTable(edit *layers.Editor, name string, fields int) (*table, error) {
	t := &table{name: name, fields: fields}
	data, err := edit.ReadFile(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.there = true
	for line := range strings.Lines(string(data)) {
		t.lines = append(t.lines, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return t, nil
}

// find returns the line whose first field is name, or nil.
func (t *table) find(name string) []string {
	for _, line := range t.lines {
		if len(line) == t.fields && line[0] == name {
			return line
		}
	}
	return nil
}

// set changes one field of a line that [table.find] has returned.
func (t *table) set(line []string, field int, value string) {
	if line[field] != value {
		line[field] = value
		t.changed = true
	}
}

// add appends a line. What must stand at the end of passwd(5) for the network services of old, a line that begins with "+", stays there.
func (t *table) add(fields ...string) {
	at := len(t.lines)
	for at > 0 && strings.HasPrefix(t.lines[at-1][0], "+") {
		at--
	}
	t.lines = append(t.lines[:at], append([][]string{fields}, t.lines[at:]...)...)
	t.changed = true
}

// ids returns the numbers in the given field of all lines.
func (t *table) ids(field int) map[uint32]bool {
	used := map[uint32]bool{}
	for _, line := range t.lines {
		if len(line) > field {
			if id, err := strconv.ParseUint(line[field], 10, 32); err == nil {
				used[uint32(id)] = true
			}
		}
	}
	return used
}

// write puts a changed table back, with the owner, mode and attributes that the file had.
func (t *table) write(edit *layers.Editor, perm uint32) error {
	if !t.changed {
		return nil
	}
	var text strings.Builder
	for _, line := range t.lines {
		text.WriteString(strings.Join(line, ":") + "\n")
	}
	if err := replaceFile(edit, t.name, []byte(text.String()), perm); err != nil {
		return fmt.Errorf("writing /%s: %w", t.name, err)
	}
	return nil
}

// replaceFile gives a file new content and keeps its other metadata; one that is not there gets the permissions perm. A symbolic link at the
// end of name is followed.
func replaceFile(edit *layers.Editor, name string, data []byte, perm uint32) error {
	resolved, old, err := edit.Resolve(name)
	if errors.Is(err, fs.ErrNotExist) {
		return edit.WriteFile(name, data, perm)
	}
	if err != nil {
		return err
	}
	node := layers.NewFile(data, old.Perm(), edit.ModTime)
	node.UID, node.GID, node.Xattrs = old.UID, old.GID, old.Xattrs
	return edit.Put(resolved, node)
}
