package description

import (
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Checks of containers.

func containerChecks() []Check {
	return []Check{
		{ID: "appx_naming_conventions_valid", Reason: "Windows refuses packages with other names.", find: findAppx},
		{ID: "container_names_valid", Reason: "Container engines and registries refuse other names.", find: findContainerNames},
		{ID: "container_settings_valid", Reason: "A container engine refuses such settings when the container is started.", find: findContainerSettings},
		{ID: "derived_from_valid", Reason: "A base container of an unknown kind can't be fetched.", find: findDerived},
	}
}

// The grammar of names of containers (distribution's reference): a host may be
// before the first slash.
var (
	hostForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]+)?$`)
	partForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$`)
	tagForm  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
)

// containerName returns why NAME[:TAG] is none, or "".
func containerName(full string) string {
	name, tag := full, ""
	if i := strings.LastIndexByte(full, ':'); i > strings.LastIndexByte(full, '/') {
		name, tag = full[:i], full[i+1:]
		if !tagForm.MatchString(tag) {
			return "the tag " + strconv.Quote(tag) + " has other characters than letters, digits, '_', '.' and '-'"
		}
	}
	parts := strings.Split(name, "/")
	if len(parts) > 1 && hostForm.MatchString(parts[0]) && (strings.ContainsAny(parts[0], ".:") || parts[0] == "localhost") {
		parts = parts[1:]
	}
	for _, part := range parts {
		if !partForm.MatchString(part) {
			return "the part " + strconv.Quote(part) + " of the name has other characters than small letters and digits with '.', '_' or '-' between"
		}
	}
	return ""
}

func findContainerNames(img *Image) (errs Errors) {
	c := img.Type.Container
	if !forTypes(onContainer, img.Type.Image) || c == nil || c.Name == "" {
		return nil
	}
	if reason := containerName(c.Name); reason != "" {
		errs.add(c.At("name"), "use small letters", "the container can't be named %q: %s", c.Name, reason)
	}
	if c.Tag != "" && !tagForm.MatchString(c.Tag) {
		errs.add(c.At("tag"), "use letters, digits, '_', '.' and '-'", "the tag %q is not allowed", c.Tag)
	}
	for _, name := range c.AdditionalNames {
		full := name
		if strings.HasPrefix(name, ":") {
			full = "name" + name
		}
		if reason := containerName(full); reason != "" {
			errs.add(c.At("additionalnames"), "write name:tag, name or :tag", "the container can't be named %q: %s", name, reason)
		}
	}
	return errs
}

// signalForm knows the name or number of a signal.
var signalForm = regexp.MustCompile(`^(SIG)?[A-Z][A-Z0-9]*([+-][0-9]+)?$|^[0-9]{1,2}$`)

func findContainerSettings(img *Image) (errs Errors) {
	c := img.Type.Container
	if !forTypes(onContainer, img.Type.Image) || c == nil {
		return nil
	}
	for _, port := range c.Expose {
		number, _, _ := strings.Cut(port, "/")
		if n, err := strconv.Atoi(number); err != nil || n < 1 || n > 65535 {
			errs.add(c.At("expose"), "write a number from 1 to 65535", "there is no port %s", port)
		}
	}
	for _, v := range c.Volumes {
		switch {
		case !path.IsAbs(v):
			errs.add(c.At("volumes"), "begin with /", "the volume %q is not an absolute path", v)
		case path.Clean(v) == "/":
			errs.add(c.At("volumes"), "name a directory below it", "the root directory, %q, can be no volume", v)
		}
	}
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		errs.add(c.At("workingdir"), "begin with /", "the working directory %q is not an absolute path", c.WorkingDir)
	}
	for _, e := range c.Env {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") {
			errs.add(e.At("name"), "use letters, digits and '_'", "the environment variable %q can't be set", e.Name)
		}
	}
	for _, l := range c.Labels {
		if l.Name == "" {
			errs.add(l.At("name"), "name it", "a label has no name")
		}
	}
	if c.StopSignal != "" && !signalForm.MatchString(c.StopSignal) {
		errs.add(c.At("stopsignal"), "write a name such as SIGTERM, or a number", "there is no signal %q", c.StopSignal)
	}
	return errs
}

// baseSchemes are the kinds of base containers that KIWI knows. A name without
// a scheme is one of imgbuild's own forms.
var baseSchemes = []string{"docker", "obs", "obsrepositories", "file"}

func findDerived(img *Image) (errs Errors) {
	t := &img.Type
	if _, given := t.attrs["derived_from"]; given && len(t.DerivedFrom) == 0 {
		errs.add(t.At("derived_from"), "name one, or remove the attribute", "derived_from names no container")
	}
	for _, uri := range t.DerivedFrom {
		scheme, rest, ok := strings.Cut(uri, "://")
		switch {
		case !ok:
		case !contains(baseSchemes, scheme):
			errs.add(t.At("derived_from"), "begin with docker://, obs:// or file://", "the container %q is of no known kind", uri)
		case rest == "":
			errs.add(t.At("derived_from"), "name the container", "%s names no container", uri)
		case scheme == "docker":
			name, _, _ := strings.Cut(rest, "@")
			if reason := containerName(name); reason != "" {
				errs.add(t.At("derived_from"), "write docker://registry/name:tag", "there can be no container %q: %s", rest, reason)
			}
		}
	}
	return errs
}

var appxName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.]*$`)

func findAppx(img *Image) (errs Errors) {
	if img.Type.Image != "appx" {
		return nil
	}
	c := img.Type.Container
	if c == nil {
		c = &ContainerConfig{Origin: img.Type.Origin}
	}
	h := &c.History
	at := func(attr string) Position {
		if h.Pos.IsZero() {
			return c.Pos
		}
		return h.At(attr)
	}
	if h.ApplicationID == "" || !appxName.MatchString(h.ApplicationID) {
		errs.add(at("application_id"), `write <history application_id="Name" ...> with letters, digits and dots`, "the application id %q is not allowed", h.ApplicationID)
	}
	if h.Launcher == "" || !strings.HasSuffix(h.Launcher, ".exe") {
		errs.add(at("launcher"), `write <history launcher="name.exe" ...>`, "the launcher %q is not the name of a Windows program", h.Launcher)
	}
	return errs
}
