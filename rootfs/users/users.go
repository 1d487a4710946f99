// Package users makes and changes the accounts of a root tree, in the tree's own files and without any program of it: passwd(5), shadow(5), group(5),
// gshadow(5), subuid(5) and home directories.
package users

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// The fields of a line of passwd(5).
const (
	passwdName = iota
	passwdPassword
	passwdUID
	passwdGID
	passwdComment
	passwdHome
	passwdShell
	passwdFields
)

// The fields of a line of shadow(5), group(5), gshadow(5) and subuid(5).
const (
	shadowPassword = 1
	shadowChanged  = 2
	shadowFields   = 9

	groupID      = 2
	groupMembers = 3
	groupFields  = 4

	gshadowMembers = 3
	gshadowFields  = 4

	subidFirst  = 1
	subidCount  = 2
	subidFields = 3
)

// accounts are the open files of one tree.
type accounts struct {
	edit                                             *layers.Editor
	passwd, shadow, group, gshadow, subuids, subgids *table
	defs                                             definitions
	source                                           repro.Source
	notes                                            []string
}

// Apply makes the groups and users of a description, and changes those that are there already, as groupadd, useradd and usermod would.
// Salts of passwords and the day of their change come from source. The notes say what a user may not have meant.
func Apply(edit *layers.Editor, groups []description.Group, users []description.User, source repro.Source) (notes []string, err error) {
	if len(groups) == 0 && len(users) == 0 {
		return nil, nil
	}
	a, err := open(edit, source)
	if err != nil {
		return nil, fmt.Errorf("reading the accounts of the root tree: %w", err)
	}
	for _, g := range groups {
		if err := a.addGroup(g); err != nil {
			return nil, err
		}
	}
	for _, u := range users {
		if err := a.applyUser(u); err != nil {
			return nil, err
		}
	}
	for _, file := range []struct {
		table *table
		perm  uint32
	}{{a.passwd, 0o644}, {a.group, 0o644}, {a.shadow, 0o640}, {a.gshadow, 0o640}, {a.subuids, 0o644}, {a.subgids, 0o644}} {
		if err := file.table.write(edit, file.perm); err != nil {
			return nil, err
		}
	}
	return a.notes, nil
}

func open(edit *layers.Editor, source repro.Source) (*accounts, error) {
	a := &accounts{edit: edit, source: source}
	for _, file := range []struct {
		table  **table
		name   string
		fields int
	}{
		{&a.passwd, "etc/passwd", passwdFields}, {&a.shadow, "etc/shadow", shadowFields}, {&a.group, "etc/group", groupFields},
		{&a.gshadow, "etc/gshadow", gshadowFields}, {&a.subuids, "etc/subuid", subidFields}, {&a.subgids, "etc/subgid", subidFields},
	} {
		t, err := readTable(edit, file.name, file.fields)
		if err != nil {
			return nil, err
		}
		*file.table = t
	}
	var err error
	a.defs, err = readDefinitions(edit)
	return a, err
}

func (a *accounts) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

// addGroup makes a group that is not there. The id of one that is there stays as it is, because files belong to it.
func (a *accounts) addGroup(g description.Group) error {
	if err := checkName(g.Name); err != nil {
		return fmt.Errorf("adding group %q: %w", g.Name, err)
	}
	if line := a.group.find(g.Name); line != nil {
		if g.GID >= 0 && line[groupID] != strconv.Itoa(g.GID) {
			a.note("group %s is there with id %s; it does not get id %d", g.Name, line[groupID], g.GID)
		}
		return nil
	}
	used := a.group.ids(groupID)
	id := uint32(max(g.GID, 0))
	switch {
	case g.GID >= 0 && used[id]:
		return fmt.Errorf("adding group %s: id %d belongs to another group", g.Name, g.GID)
	case g.GID < 0:
		var err error
		if id, err = nextID(used, a.defs.number("GID_MIN", 1000), a.defs.number("GID_MAX", 60000)); err != nil {
			return fmt.Errorf("adding group %s: %w", g.Name, err)
		}
	}
	a.putGroup(g.Name, id)
	return nil
}

func (a *accounts) putGroup(name string, id uint32) {
	a.group.add(name, "x", strconv.FormatUint(uint64(id), 10), "")
	if a.gshadow.there {
		a.gshadow.add(name, "!", "", "")
	}
}

// applyUser makes a user, or changes the one that is there.
func (a *accounts) applyUser(u description.User) error {
	fail := func(err error) error {
		var at *description.Error
		if errors.As(err, &at) {
			return err
		}
		return u.Errorf("name", "", "user %s can't be made: %v", u.Name, err)
	}
	if err := checkUser(u); err != nil {
		return fail(err)
	}
	line := a.passwd.find(u.Name)
	isNew := line == nil
	if isNew {
		var err error
		if line, err = a.newUser(u); err != nil {
			return fail(err)
		}
	} else if err := a.changeUser(line, u); err != nil {
		return fail(err)
	}
	if err := a.setPassword(u, line); err != nil {
		return fail(err)
	}
	if len(u.Groups) > 0 {
		a.setMembership(u)
	}
	if !a.hasShell(line[passwdShell]) {
		a.note("user %s has the shell %s, which the root tree lacks", u.Name, line[passwdShell])
	}
	if err := a.makeHome(line, isNew || u.Home != ""); err != nil {
		return fail(fmt.Errorf("making the home directory %s: %w", line[passwdHome], err))
	}
	return nil
}

// newUser adds a user to passwd, as useradd would.
func (a *accounts) newUser(u description.User) ([]string, error) {
	if u.Name == "root" {
		u.UID, u.Home = max(u.UID, 0), cmp.Or(u.Home, "/root")
	}
	used := a.passwd.ids(passwdUID)
	uid := uint32(max(u.UID, 0))
	switch {
	case u.UID >= 0 && used[uid]:
		return nil, fmt.Errorf("id %d belongs to another user", u.UID)
	case u.UID < 0:
		var err error
		if uid, err = nextID(used, a.defs.number("UID_MIN", 1000), a.defs.number("UID_MAX", 60000)); err != nil {
			return nil, err
		}
	}
	gid, err := a.loginGroup(u, uid)
	if err != nil {
		return nil, err
	}
	home, shell := u.Home, u.Shell
	if home == "" {
		home = path.Join(a.defs.text("HOME", "/home"), u.Name)
	}
	if shell == "" {
		shell = a.defs.text("SHELL", "/bin/sh")
	}
	a.passwd.add(u.Name, "x", strconv.FormatUint(uint64(uid), 10), gid, u.RealName, home, shell)
	a.addSubIDs(u.Name, uid)
	return a.passwd.find(u.Name), nil
}

// loginGroup returns the id of a new user's login group: the first that the description names, or one of the user's own.
func (a *accounts) loginGroup(u description.User, uid uint32) (string, error) {
	if len(u.Groups) > 0 {
		line := a.group.find(u.Groups[0].Name)
		if line == nil {
			if err := a.addGroup(u.Groups[0]); err != nil {
				return "", err
			}
			line = a.group.find(u.Groups[0].Name)
		}
		return line[groupID], nil
	}
	if line := a.group.find(u.Name); line != nil {
		return line[groupID], nil
	}
	if a.defs.text("USERGROUPS_ENAB", "yes") != "yes" {
		return a.defs.text("GROUP", "100"), nil
	}
	id := uid
	if used := a.group.ids(groupID); used[id] {
		var err error
		if id, err = nextID(used, a.defs.number("GID_MIN", 1000), a.defs.number("GID_MAX", 60000)); err != nil {
			return "", err
		}
	}
	a.putGroup(u.Name, id)
	return strconv.FormatUint(uint64(id), 10), nil
}

// changeUser changes a user who is there, as usermod would: only what the description says.
func (a *accounts) changeUser(line []string, u description.User) error {
	if u.UID >= 0 && line[passwdUID] != strconv.Itoa(u.UID) {
		if a.passwd.ids(passwdUID)[uint32(u.UID)] {
			return fmt.Errorf("id %d belongs to another user", u.UID)
		}
		old, err := strconv.ParseUint(line[passwdUID], 10, 32)
		if err != nil {
			return fmt.Errorf("the id %q in /etc/passwd is no number", line[passwdUID])
		}
		if err := a.changeOwner(line[passwdHome], uint32(old), uint32(u.UID)); err != nil {
			return err
		}
		a.passwd.set(line, passwdUID, strconv.Itoa(u.UID))
	}
	for field, value := range map[int]string{passwdShell: u.Shell, passwdComment: u.RealName, passwdHome: u.Home} {
		if value != "" {
			a.passwd.set(line, field, value)
		}
	}
	if len(u.Groups) == 0 {
		return nil
	}
	gid, err := a.loginGroup(u, 0)
	if err != nil {
		return err
	}
	a.passwd.set(line, passwdGID, gid)
	return nil
}

// setPassword writes the password's hash to shadow, or to passwd where a tree has no shadow.
func (a *accounts) setPassword(u description.User, line []string) error {
	hash := u.Password
	switch {
	case u.Plain:
		var err error
		if hash, err = Hash(u.Password, a.source.Salt("password of "+u.Name, 16)); err != nil {
			return err
		}
	case hash == "":
		a.note("user %s has an empty password: everybody can log in as %s", u.Name, u.Name)
	}
	if !a.shadow.there {
		a.passwd.set(line, passwdPassword, hash)
		return nil
	}
	a.passwd.set(line, passwdPassword, "x")
	day := strconv.FormatInt(a.source.Epoch.Unix()/(24*60*60), 10)
	if entry := a.shadow.find(u.Name); entry != nil {
		if entry[shadowPassword] != hash {
			a.shadow.set(entry, shadowPassword, hash)
			a.shadow.set(entry, shadowChanged, day)
		}
		return nil
	}
	a.shadow.add(u.Name, hash, day, a.defs.text("PASS_MIN_DAYS", "0"), a.defs.text("PASS_MAX_DAYS", "99999"), a.defs.text("PASS_WARN_AGE", "7"), "", "", "")
	return nil
}

// setMembership makes a user a member of the groups of the description after the first, and of no others.
func (a *accounts) setMembership(u description.User) {
	var wanted []string
	for _, g := range u.Groups[1:] {
		wanted = append(wanted, g.Name)
	}
	for _, file := range []struct {
		table   *table
		members int
	}{{a.group, groupMembers}, {a.gshadow, gshadowMembers}} {
		for _, line := range file.table.lines {
			if len(line) != file.table.fields {
				continue
			}
			members := strings.FieldsFunc(line[file.members], func(r rune) bool { return r == ',' })
			isMember, shouldBe := slices.Contains(members, u.Name), slices.Contains(wanted, line[0])
			switch {
			case isMember && !shouldBe:
				members = slices.DeleteFunc(members, func(m string) bool { return m == u.Name })
			case !isMember && shouldBe:
				members = append(members, u.Name)
			default:
				continue
			}
			file.table.set(line, file.members, strings.Join(members, ","))
		}
	}
}

// addSubIDs gives a new ordinary user subordinate ids, where the tree's distribution does.
func (a *accounts) addSubIDs(name string, uid uint32) {
	if uid < a.defs.number("UID_MIN", 1000) || uid > a.defs.number("UID_MAX", 60000) {
		return
	}
	for _, file := range []struct {
		table  *table
		prefix string
	}{{a.subuids, "SUB_UID"}, {a.subgids, "SUB_GID"}} {
		count := a.defs.number(file.prefix+"_COUNT", 65536)
		if !file.table.there || count == 0 || file.table.find(name) != nil {
			continue
		}
		next := a.defs.number(file.prefix+"_MIN", 100000)
		for _, line := range file.table.lines {
			if len(line) != subidFields {
				continue
			}
			first, err1 := strconv.ParseUint(line[subidFirst], 10, 32)
			size, err2 := strconv.ParseUint(line[subidCount], 10, 32)
			if err1 == nil && err2 == nil && first+size < 1<<32 {
				next = max(next, uint32(first+size))
			}
		}
		file.table.add(name, strconv.FormatUint(uint64(next), 10), strconv.FormatUint(uint64(count), 10))
	}
}

// Lookup returns the ids of "user" or "user:group" as the tree's account files know them; numbers stand for themselves, "" for root. Without a
// group it is the user's login group.
func Lookup(edit *layers.Editor, owner string) (uid, gid uint32, err error) {
	if owner == "" {
		return 0, 0, nil
	}
	user, group, hasGroup := strings.Cut(owner, ":")
	passwd, err := readTable(edit, "etc/passwd", passwdFields)
	if err != nil {
		return 0, 0, err
	}
	groups, err := readTable(edit, "etc/group", groupFields)
	if err != nil {
		return 0, 0, err
	}
	userText, groupText := user, group
	if line := passwd.find(user); line != nil {
		userText = line[passwdUID]
		if !hasGroup {
			groupText = line[passwdGID]
		}
	} else if !hasGroup {
		groupText = user
	}
	if line := groups.find(group); hasGroup && line != nil {
		groupText = line[groupID]
	}
	uid64, err1 := strconv.ParseUint(userText, 10, 32)
	gid64, err2 := strconv.ParseUint(groupText, 10, 32)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("the root tree has no owner %q", owner)
	}
	return uint32(uid64), uint32(gid64), nil
}

// Hash returns the SHA-512 hash of a password in the form of crypt(5).
func Hash(password, salt string) (string, error) {
	const rounds = 5000 // what crypt(5) takes where the hash does not say
	hasher, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithRounds(rounds))
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	digest, err := hasher.HashWithSalt(password, []byte(salt))
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return digest.Encode(), nil
}

// checkName refuses names that would break the lines of the account files.
func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, ":,/\n \t") || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "+") {
		return errors.New("the name must not be empty, begin with - or +, or hold blanks or any of : , /")
	}
	return nil
}

func checkUser(u description.User) error {
	if err := checkName(u.Name); err != nil {
		return err
	}
	for what, value := range map[string]string{"real name": u.RealName, "home directory": u.Home, "shell": u.Shell} {
		if strings.ContainsAny(value, ":\n") {
			return fmt.Errorf("the %s must not hold a colon or a line break", what)
		}
	}
	if !u.Plain && strings.ContainsAny(u.Password, ":\n") {
		return u.Errorf("password", "write the hash as crypt(5) has it, or pwdformat=\"plain\" for a password in clear text",
			"the encrypted password of user %s holds a colon or a line break", u.Name)
	}
	for _, g := range u.Groups {
		if err := checkName(g.Name); err != nil {
			return fmt.Errorf("group %q: %w", g.Name, err)
		}
	}
	return nil
}
