package firewall

// intake builds the chains that look at packets before any rule does, whether
// they are for the node or for a guest.
func (b *builder) intake() {
	if b.hasBlacklist() {
		c := Chain{}
		b.logger.log(&c, chainBlacklist, 0, option(b.in.Host, "log_level_in", noLog), "DROP")
		c.add(drop)
		b.chains[chainBlacklist] = c
	}
	if b.wants("nosmurfs", "1") {
		b.chains[chainSmurfs] = smurfsChain(b.family)
		b.chains[chainSmurfLog] = b.dropLogged(chainSmurfLog, "smurf_log_level")
	}
	if b.wants("tcpflags", "0") {
		b.chains[chainFlags] = flagsChain()
		b.chains[chainFlagsLog] = b.dropLogged(chainFlagsLog, "tcp_flags_log_level")
	}
}

// dropLogged is the end of packets that no rule could want.
func (b *builder) dropLogged(name, level string) (c Chain) {
	b.logger.log(&c, name, 0, option(b.in.Host, level, noLog), "DROP")
	c.add(drop)
	return c
}

func (b *builder) wants(name, preset string) bool { return option(b.in.Host, name, preset) != "0" }

func (b *builder) hasBlacklist() bool {
	if b.in.Cluster == nil {
		return false
	}
	_, ok := b.in.Cluster.IPSet(blacklist)
	return ok
}

// filters sends packets through the chains of intake.
func (b *builder) filters(c *Chain) {
	if b.hasBlacklist() {
		c.add(jump(chainBlacklist), member{source, setName(0, blacklist, b.family), false})
	}
	if b.wants("nosmurfs", "1") {
		c.add(jump(chainSmurfs), state("INVALID,NEW"))
	}
	if b.wants("tcpflags", "0") {
		c.add(jump(chainFlags), protocol("tcp"))
	}
}

// Messages by which IPv6 finds neighbours, and routers. A guest that sends
// router advertisements calls itself a router.
const routerAdvertisement = "router-advertisement"

var (
	neighbourTypes      = []string{"router-solicitation", routerAdvertisement, "neighbour-solicitation", "neighbour-advertisement"}
	guestNeighbourTypes = []string{"router-solicitation", "neighbour-solicitation", "neighbour-advertisement"}
)

// neighbours lets neighbour discovery pass unless the option ndp is off.
func (b *builder) neighbours(c *Chain, pass Target, ndp string, types []string) {
	if b.family != IPv6 || ndp == "0" {
		return
	}
	for _, kind := range types {
		c.add(pass, icmpOf[IPv6], icmpType{IPv6, kind})
	}
}
