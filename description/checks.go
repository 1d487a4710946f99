package description

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// A Check looks for something in a resolved image that the language allows and
// that can't work. A user who knows better can switch it off by its ID.
type Check struct {
	ID     string `json:"id"`
	Reason string `json:"reason"` // why the check exists, one sentence
	// Unneeded says why a check of KIWI is not made here. Its ID can be switched
	// off like any other.
	Unneeded string `json:"unneeded,omitempty"`
	find     func(*Image) Errors
	// advise finds what need not go wrong: it becomes warnings.
	advise func(*Image) Errors
}

// AllChecks, as an element of Selection.SkipChecks, switches all checks off. It is
// for a description that has done its work already, such as that of a stash.
const AllChecks = "all"

// Checks returns all checks in the order in which they are made. Where KIWI
// has a runtime check for the same mistake, the ID is KIWI's.
func Checks() []Check {
	var all []Check
	for _, list := range [][]Check{imageChecks(), packageChecks(), fileChecks(), diskChecks(), bootChecks(), containerChecks()} {
		all = append(all, list...)
	}
	return all
}

// CheckNames reports names that are no check's ID and not AllChecks. KIWI's
// settings write check_ before an ID, which may stand here too.
func CheckNames(ids []string) error {
	known := []string{AllChecks}
	for _, c := range Checks() {
		known = append(known, c.ID)
	}
	var errs []error
	for _, id := range ids {
		if id = strings.TrimPrefix(id, "check_"); !contains(known, id) {
			errs = append(errs, fmt.Errorf("there is no check %q; %s", id, DidYouMean(id, known, "imgbuild description checks lists them")))
		}
	}
	return errors.Join(errs...)
}

// check returns what can't work in a resolved image, and what may not.
func check(img *Image, skip []string) (errs, warnings Errors) {
	off := map[string]bool{}
	for _, id := range skip {
		off[strings.TrimPrefix(id, "check_")] = true
	}
	if off[AllChecks] {
		return nil, nil
	}
	for _, c := range Checks() {
		if off[c.ID] {
			continue
		}
		errs = append(errs, c.run(c.find, img)...)
		warnings = append(warnings, c.run(c.advise, img)...)
	}
	return errs, warnings
}

// run returns what one of the check's functions finds, with the check's ID.
func (c *Check) run(find func(*Image) Errors, img *Image) Errors {
	if find == nil {
		return nil
	}
	found := find(img)
	for _, e := range found {
		e.Check = c.ID
	}
	return found
}

func imageChecks() []Check {
	return []Check{
		{ID: "image_version_provided", Reason: "The version is part of every result's name.", find: findVersion},
		{ID: "image_name_length", Reason: "Of a file's name 255 bytes are possible, and what a result is follows its name and version.", find: findLength},
		{ID: "include_references_unresolvable", Reason: "What an included file includes is not read.", find: findIncludes},
		{ID: "image_type_unique", Reason: "Of two types of the same name in the chosen profiles only one would be built.", find: findTypes},
		{ID: "locale_settings_valid", Reason: "A wrong time zone or keyboard map is found out only by whoever boots the image.", find: findSettings},
		{ID: "user_definition_valid", Reason: "A wrong account locks its user out, or breaks /etc/passwd.", find: findUsers},
		{ID: "user_password_format", Reason: "A clear-text password that is stored as if it were a hash locks its user out.", find: findPasswords},
		{ID: "target_directory_not_in_shared_cache", Reason: "KIWI binds its cache into the root tree.",
			Unneeded: "nothing of the cache is in view of the root tree"},
	}
}

func findVersion(img *Image) (errs Errors) {
	if img.Version == "" {
		errs.add(img.At("version"), "add <version>1.0.0</version> to <preferences>", "the image has no version")
	} else if strings.ContainsAny(img.Version, "/ \t\n") {
		errs.add(img.At("version"), "write Major.Minor.Release", "the version %q can't be part of a file name", img.Version)
	}
	return errs
}

// maxResultName is how many bytes <name>.<arch>-<version> may have: 255 without the longest that follows it, the id of a bundle and an ending such as
// -6.1.0-50-cloud-amd64.kernel.sha256 among it.
const maxResultName = 180

func findLength(img *Image) (errs Errors) {
	if name := img.Name + "." + img.Arch + "-" + img.Version; len(name) > maxResultName {
		errs.add(img.At("name"), "choose a shorter name", "the results' names would begin with %d bytes, %s..., and more than %d are not possible", len(name), name[:40], maxResultName)
	}
	return errs
}

func findIncludes(img *Image) (errs Errors) {
	for _, e := range img.doc.root.elements(includeRule.Name) {
		errs.add(e.pos, "include it from the description itself", "an included file can't include another")
	}
	return errs
}

func findTypes(img *Image) (errs Errors) {
	seen := map[string]Position{}
	for _, t := range img.types {
		image, _ := t.attr("image")
		image = collapse(image)
		if first, twice := seen[image]; twice {
			errs.add(t.pos, "put them into different profiles", "the type %s is there twice, first in line %d", image, first.Line)
			continue
		}
		seen[image] = t.pos
	}
	return errs
}

var (
	timezoneForm = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	keytableForm = regexp.MustCompile(`^[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*$`)
	userForm     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$`)
)

func findSettings(img *Image) (errs Errors) {
	if tz := img.Timezone; tz != "" && !timezoneForm.MatchString(tz) {
		errs.add(img.At("timezone"), "write a name below /usr/share/zoneinfo, such as Europe/Berlin", "the time zone %q is not of the right form", tz)
	}
	if key := img.Keytable; key != "" && (!keytableForm.MatchString(key) || strings.Contains(key, "..")) {
		errs.add(img.At("keytable"), "write the name of a map, such as us or de-latin1", "the keyboard map %q is not of the right form", key)
	}
	return errs
}

func findUsers(img *Image) (errs Errors) {
	const maxID = int64(1<<32 - 2) // the highest id that is not -1 in 32 bits
	for _, u := range img.Users {
		if !userForm.MatchString(u.Name) || len(u.Name) > 32 {
			errs.add(u.At("name"), "use at most 32 letters, digits, '_', '-' and '.'", "the user name %q is not allowed", u.Name)
		}
		if int64(u.UID) > maxID {
			errs.add(u.At("id"), "", "the user id %d is too large", u.UID)
		}
		for attr, value := range map[string]string{"realname": u.RealName, "home": u.Home, "shell": u.Shell, "password": u.Password} {
			if strings.ContainsAny(value, "\n\x00") || strings.Contains(value, ":") && (attr != "password" || !u.Plain) {
				errs.add(u.At(attr), "/etc/passwd separates its fields by it", "%s of user %s holds a colon or a line break", attr, u.Name)
			}
		}
		for attr, value := range map[string]string{"home": u.Home, "shell": u.Shell} {
			if value != "" && !path.IsAbs(value) {
				errs.add(u.At(attr), "begin with /", "%s %q of user %s is not an absolute path", attr, value, u.Name)
			}
		}
		for _, g := range u.Groups {
			if !userForm.MatchString(g.Name) || len(g.Name) > 32 || int64(g.GID) > maxID {
				errs.add(u.At("groups"), "write names, or NAME:GID, with commas between", "the group %q of user %s is not allowed", g.Name, u.Name)
			}
		}
	}
	return errs
}

// hashForm knows what crypt(3) writes, locked passwords, and none at all.
var hashForm = regexp.MustCompile(`^(|[!*]+.*|\$[0-9a-z]+\$.+|_[./0-9A-Za-z]{19}|[./0-9A-Za-z]{13})$`)

func findPasswords(img *Image) (errs Errors) {
	for _, u := range img.Users {
		if !u.Plain && !hashForm.MatchString(u.Password) {
			errs.add(u.At("password"), `add pwdformat="plain", or hash it with: openssl passwd -6`, "the password of user %s is not a hash", u.Name)
		}
		if u.Plain && u.Password == "" {
			errs.add(u.At("password"), `write password="*" to lock the account`, "user %s has an empty password", u.Name)
		}
	}
	return errs
}
