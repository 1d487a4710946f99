package users

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// definitions are the settings of login.defs(5) and of /etc/default/useradd.
type definitions map[string]string

func readDefinitions(edit *layers.Editor) (definitions, error) {
	defs := definitions{}
	for _, name := range []string{"usr/etc/login.defs", "etc/login.defs", "usr/etc/default/useradd", "etc/default/useradd"} {
		data, err := edit.ReadFile(name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			// One file has "NAME value", the other NAME=value.
			fields := strings.FieldsFunc(line, func(r rune) bool { return r == '=' || r == ' ' || r == '\t' || r == '\n' })
			if len(fields) >= 2 && !strings.HasPrefix(fields[0], "#") {
				defs[fields[0]] = fields[1]
			}
		}
	}
	return defs, nil
}

func (d definitions) text(name, otherwise string) string {
	if value, ok := d[name]; ok {
		return value
	}
	return otherwise
}

// number reads a setting, octal with a leading 0 as in login.defs.
func (d definitions) number(name string, otherwise uint32) uint32 {
	if value, err := strconv.ParseUint(d[name], 0, 32); err == nil {
		return uint32(value)
	}
	return otherwise
}

// nextID is the id that useradd and groupadd give: one more than the highest in the range, or else the lowest that is free.
func nextID(used map[uint32]bool, low, high uint32) (uint32, error) {
	high = min(high, 1<<32-3) // the last two ids mean "nobody in particular" to system calls
	next := low
	for id := range used {
		if id >= next && id <= high {
			next = id + 1
		}
	}
	if next <= high {
		return next, nil
	}
	for id := low; id <= high; id++ {
		if !used[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("every id from %d to %d is taken", low, high)
}

// hasShell reports whether the tree has a login shell. The names of what refuses a login are fine in any case.
func (a *accounts) hasShell(shell string) bool {
	if shell == "" || shell == "/bin/sync" || strings.HasSuffix(shell, "/nologin") || strings.HasSuffix(shell, "/false") {
		return true
	}
	_, node, err := a.edit.Resolve(shell)
	return err == nil && node.IsRegular()
}

// makeHome makes a user's home directory from /etc/skel, or gives the user what an overlay has put there.
func (a *accounts) makeHome(line []string, wanted bool) error {
	home := layers.Clean(line[passwdHome])
	if !wanted || home == "." {
		return nil
	}
	uid, err1 := strconv.ParseUint(line[passwdUID], 10, 32)
	gid, err2 := strconv.ParseUint(line[passwdGID], 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("the ids %s:%s in /etc/passwd are no numbers", line[passwdUID], line[passwdGID])
	}
	resolved, node, err := a.edit.Resolve(home)
	switch {
	case err == nil && !node.IsDir():
		return fmt.Errorf("a %s is in the way", layers.TypeName(node.Mode))
	case err == nil:
		if !isPersonal(home) {
			return nil // a system directory that serves as a home does not change hands
		}
		return a.own(resolved, node, uint32(uid), uint32(gid))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	perm := 0o777 &^ a.defs.number("UMASK", 0o022)
	if _, ok := a.defs["HOME_MODE"]; ok {
		perm = a.defs.number("HOME_MODE", perm)
	}
	if err := a.edit.MkdirAll(path.Dir(home), 0o755); err != nil {
		return err
	}
	made := &layers.Node{Mode: layers.TypeDir | perm, UID: uint32(uid), GID: uint32(gid), MTime: a.edit.ModTime}
	if err := a.edit.Put(home, made); err != nil {
		return err
	}
	return a.copySkeleton(home, uint32(uid), uint32(gid))
}

// isPersonal tells homes that belong to one user from directories of the system, such as /usr/sbin, that some accounts have as their home.
func isPersonal(home string) bool {
	top, _, below := strings.Cut(home, "/")
	switch top {
	case "root":
		return true
	case "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "tmp", "usr":
		return false
	}
	return below
}

// copySkeleton copies /etc/skel.
func (a *accounts) copySkeleton(home string, uid, gid uint32) error {
	skeleton := layers.Clean(a.defs.text("SKEL", "/etc/skel"))
	_, dir, err := a.edit.Resolve(skeleton)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !dir.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return a.copyTree(dir, home, uid, gid)
}

func (a *accounts) copyTree(dir *layers.Node, to string, uid, gid uint32) error {
	for _, name := range dir.Names() {
		child := dir.Child(name)
		c := *child
		c.UID, c.GID = uid, gid
		if child.IsDir() {
			// A directory's copy starts empty: its entries get owners of their own.
			c = layers.Node{Mode: child.Mode, UID: uid, GID: gid, MTime: child.MTime, Xattrs: child.Xattrs}
		}
		if err := a.edit.Put(path.Join(to, name), &c); err != nil {
			return err
		}
		if child.IsDir() {
			if err := a.copyTree(child, path.Join(to, name), uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// own gives a directory and all in it to a user.
func (a *accounts) own(name string, node *layers.Node, uid, gid uint32) error {
	if node.UID != uid || node.GID != gid {
		if err := a.edit.Change(name, func(n *layers.Node) { n.UID, n.GID = uid, gid }); err != nil {
			return err
		}
	}
	for _, child := range node.Names() {
		if err := a.own(path.Join(name, child), node.Child(child), uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// changeOwner gives what belonged to one id in a home directory to another.
func (a *accounts) changeOwner(home string, from, to uint32) error {
	name, node, err := a.edit.Resolve(home)
	if err != nil || !node.IsDir() || name == "." {
		return nil //nolint:nilerr // there is no such directory
	}
	return a.changeOwnerIn(name, node, from, to)
}

func (a *accounts) changeOwnerIn(name string, node *layers.Node, from, to uint32) error {
	if node.UID == from {
		if err := a.edit.Change(name, func(n *layers.Node) { n.UID = to }); err != nil {
			return err
		}
	}
	for _, child := range node.Names() {
		if err := a.changeOwnerIn(path.Join(name, child), node.Child(child), from, to); err != nil {
			return err
		}
	}
	return nil
}
