package ext4

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// debugfsReader reads a file system with debugfs(8). It sees no extended attributes, and no names with a line break.
type debugfsReader struct {
	t    testing.TB
	disk string
	dir  string
	edit *layers.Editor
	seen map[string]string // inode number -> first path

	links [][2]string // first path and further path of one inode
}

func readWithDebugfs(t testing.TB, f *os.File, offset int64) *layers.Tree {
	t.Helper()
	r := &debugfsReader{t, fmt.Sprintf("%s?offset=%d", f.Name(), offset), t.TempDir(), layers.NewTree().Edit(layers.Timespec{}), map[string]string{}, nil}
	r.walk([]string{"2"}, []string{"."})
	for _, link := range r.links {
		if err := r.edit.Link(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	return r.edit.Tree()
}

// run gives debugfs several commands and returns what it prints for each.
func (r *debugfsReader) run(commands []string) []string {
	r.t.Helper()
	cmd := exec.Command(testenv.NeedProgram(r.t, "debugfs"), "-f", "-", r.disk)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("debugfs: %v", err)
	}
	parts := strings.Split(string(out), "debugfs: ")
	if len(parts) != len(commands)+1 {
		r.t.Fatalf("debugfs answered %d of %d commands: %s", len(parts)-1, len(commands), out)
	}
	return parts[1:]
}

var (
	statTime   = regexp.MustCompile(`mtime: 0x([0-9a-f]+)(?::([0-9a-f]+))?`)
	statDevice = regexp.MustCompile(`(?:New-style D|D)evice major/minor number: (\d+):(\d+)`)
	statFast   = regexp.MustCompile(`Fast link dest: "(.*)"`)
)

// walk reads the directories with the given inodes and all below them, level by level.
func (r *debugfsReader) walk(dirs, paths []string) {
	r.t.Helper()
	for len(dirs) > 0 {
		var list []string
		for _, number := range dirs {
			list = append(list, fmt.Sprintf("ls -p <%s>", number))
		}
		var numbers, names []string
		for i, out := range r.run(list) {
			for line := range strings.Lines(out) {
				// /inode/mode/uid/gid/name/size/
				part := strings.Split(strings.TrimSuffix(line, "\n"), "/")
				if len(part) != 8 || part[1] == "0" || part[5] == "." && paths[i] != "." || part[5] == ".." {
					continue
				}
				name := part[5]
				if paths[i] != "." {
					name = paths[i] + "/" + name
				}
				if first, ok := r.seen[part[1]]; ok && part[2][:2] != "04" {
					r.links = append(r.links, [2]string{first, name})
					continue
				}
				r.seen[part[1]] = name
				numbers, names = append(numbers, part[1]), append(names, name)
				r.put(name, part)
			}
		}
		dirs, paths = r.details(numbers, names)
	}
}

func (r *debugfsReader) number(text string, base int) uint32 {
	n, err := strconv.ParseInt(text, base, 64) // debugfs shows large owners as negative numbers
	if err != nil {
		r.t.Fatal(err)
	}
	return uint32(n)
}

// put makes the entry of one line of a list.
func (r *debugfsReader) put(name string, part []string) {
	r.t.Helper()
	n := &layers.Node{Mode: r.number(part[2], 8), UID: r.number(part[3], 10), GID: r.number(part[4], 10)}
	if n.IsRegular() {
		size, err := strconv.ParseInt(part[6], 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		n.Size = size
	}
	if err := r.edit.Put(name, n); err != nil {
		r.t.Fatal(err)
	}
}

// details fills in what a list does not show, and returns the directories among the entries.
func (r *debugfsReader) details(numbers, names []string) (dirs, paths []string) {
	r.t.Helper()
	if len(numbers) == 0 {
		return nil, nil
	}
	var commands []string
	for _, number := range numbers {
		commands = append(commands, fmt.Sprintf("stat <%s>", number), fmt.Sprintf("dump <%s> %s", number, filepath.Join(r.dir, number)))
	}
	out := r.run(commands)
	for i, number := range numbers {
		stat := out[2*i]
		data, err := os.ReadFile(filepath.Join(r.dir, number))
		if err != nil {
			r.t.Fatal(err)
		}
		err = r.edit.Change(names[i], func(n *layers.Node) {
			n.MTime = r.time(stat)
			switch {
			case n.IsRegular() && n.Size > 0:
				n.Content = layers.Bytes(data)
			case n.IsSymlink():
				n.Target = string(data)
				if fast := statFast.FindStringSubmatch(stat); fast != nil {
					n.Target = fast[1]
				}
			case n.IsDevice():
				m := statDevice.FindStringSubmatch(stat)
				if m == nil {
					r.t.Fatalf("no device number: %s", stat)
				}
				n.Major, n.Minor = r.number(m[1], 10), r.number(m[2], 10)
			}
			if n.IsDir() && names[i] != "." {
				dirs, paths = append(dirs, number), append(paths, names[i])
			}
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return dirs, paths
}

func (r *debugfsReader) time(stat string) layers.Timespec {
	r.t.Helper()
	m := statTime.FindStringSubmatch(stat)
	if m == nil {
		r.t.Fatalf("no time: %s", stat)
	}
	seconds := int64(int32(r.number(m[1], 16)))
	if m[2] == "" {
		return layers.Timespec{Sec: seconds}
	}
	extra := r.number(m[2], 16)
	return layers.Timespec{Sec: seconds + int64(extra&3)<<32, Nsec: extra >> 2}
}
