package description

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// A Check looks for something in a resolved image that the language allows and
// that can't work. A user who knows better can switch it off by its ID.
type Check struct {
	ID     string
	Reason string // why the check exists, one sentence
	find   func(*Image) Errors
}

// AllChecks, as an element of Selection.SkipChecks, switches all checks off. It is
// for a description that has done its work already, such as that of a stash.
const AllChecks = "all"

// Checks returns all checks in the order in which they are made. Where KIWI
// has a runtime check for the same mistake, the ID is KIWI's.
func Checks() []Check {
	return []Check{
		{"image_version_provided", "The version is part of every result's name.", findVersion},
		{"include_references_unresolvable", "What an included file includes is not read.", findIncludes},
		{"image_type_unique", "Of two types of the same name in the chosen profiles only one would be built.", findTypes},
		{"locale_settings_valid", "A wrong time zone or keyboard map is found out only by whoever boots the image.", findSettings},
		{"user_definition_valid", "A wrong account locks its user out, or breaks /etc/passwd.", findUsers},
		{"user_password_format", "A clear-text password that is stored as if it were a hash locks its user out.", findPasswords},
		{"repository_source_known", "A package manager can't reach a repository of an unknown kind.", findSources},
		{"description_files_exist", "A script or archive that is missing would be missed in the middle of a build.", findFiles},
		{"volume_setup_has_no_root_definition", "The root volume is named @root.", findRootVolumes},
		{"volume_setup_defines_multiple_fullsize_volumes", "Only one volume can take the rest of the disk.", findFullsize},
		{"volume_setup_defines_reserved_labels", "Boot finds file systems by their labels, so labels must be unique.", findLabels},
		{"volume_label_used_with_lvm", "Only LVM volumes have file systems, and so labels, of their own.", findVolumeLabels},
		{"swap_name_used_with_lvm", "Only an LVM swap volume has a name.", findSwapName},
		{"partuuid_persistency_type_used_with_mbr", "An msdos partition table has no partition UUIDs of its own.", findPartUUID},
		{"xen_uniquely_setup_as_server_or_guest", "A machine is either a Xen server or a guest.", findXen},
		{"efi_mode_for_disk_overlay_correctly_setup", "The setup of Secure Boot changes the root file system, and an overlay root is read-only by then.", findOverlayFirmware},
		{"architecture_supports_iso_firmware_setup", "Only x86 machines have a BIOS.", findFirmware},
		{"appx_naming_conventions_valid", "Windows refuses packages with other names.", findAppx},
	}
}

// check returns what can't work in a resolved image.
func check(img *Image, skip []string) Errors {
	var errs Errors
	if contains(skip, AllChecks) {
		return nil
	}
	for _, c := range Checks() {
		if contains(skip, c.ID) {
			continue
		}
		for _, e := range c.find(img) {
			e.Check = c.ID
			errs = append(errs, e)
		}
	}
	return errs
}

func findVersion(img *Image) (errs Errors) {
	if img.Version == "" {
		errs.add(img.At("version"), "add <version>1.0.0</version> to <preferences>", "the image has no version")
	} else if strings.ContainsAny(img.Version, "/ \t\n") {
		errs.add(img.At("version"), "write Major.Minor.Release", "the version %q can't be part of a file name", img.Version)
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

// sourceSchemes are the kinds of repository sources.
var sourceSchemes = []string{"http://", "https://", "ftp://", "file:", "dir:", "iso:", "obs://", "obsrepositories:/", "this://", "/"}

func findSources(img *Image) (errs Errors) {
next:
	for _, r := range img.Repositories {
		for _, scheme := range sourceSchemes {
			if strings.HasPrefix(r.Source, scheme) {
				continue next
			}
		}
		errs.add(r.SourcePos, "begin with one of "+strings.Join(sourceSchemes, " "), "the source %q of a repository is of no known kind", withoutCredentials(r.Source))
	}
	return errs
}

// findFiles looks for the files that the description names.
func findFiles(img *Image) (errs Errors) {
	need := func(o Origin, attr, name string) {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "this://"), "./")
		if name == "" || path.IsAbs(name) || strings.Contains(name, ":") || img.FS == nil {
			return
		}
		if _, err := fs.Stat(img.FS, path.Clean(name)); err != nil {
			errs.add(o.At(attr), "put it beside "+img.File+", or correct the name", "the file %q is missing: %v", name, rootCause(err))
		}
	}
	for _, set := range []PackageSet{img.Packages.Bootstrap, img.Packages.System} {
		for _, a := range set.Archives {
			need(a.Origin, "name", a.Name)
		}
		for _, f := range set.Files {
			need(f.Origin, "name", f.Name)
		}
	}
	for _, r := range img.Repositories {
		need(r.Origin, "customize", r.Customize)
		for _, k := range r.SigningKeys {
			need(k.Origin, "key", k.URI)
		}
	}
	t := &img.Type
	need(t.Origin, "editbootconfig", t.EditBootConfig)
	need(t.Origin, "editbootinstall", t.EditBootInstall)
	need(t.Origin, "metadata_path", t.MetadataPath)
	need(t.Bootloader.Origin, "grub_template", t.Bootloader.GrubTemplate)
	for _, box := range t.Vagrant {
		need(box.Origin, "embedded_vagrantfile", box.EmbeddedVagrantfile)
	}
	return errs
}
