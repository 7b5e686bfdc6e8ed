# Reads a Vagrantfile without Vagrant and prints what it defines as JSON. It knows the words that ours uses; any other
# is an error.
require "json"

class Provider
  attr_accessor :cpus, :memory
end

class Machine
  attr_accessor :box, :hostname
  attr_reader :machines, :networks, :providers, :provisions

  def initialize
    @machines, @networks, @providers, @provisions = {}, [], {}, []
  end

  def vm
    self
  end

  def synced_folder(from, to, disabled:)
    raise "#{from} is shared as #{to}" unless disabled
  end

  def provider(name)
    yield @providers[name] = Provider.new
  end

  def define(name)
    yield @machines[name] = Machine.new
  end

  def network(kind, ip:)
    @networks << { kind: kind, ip: ip }
  end

  def provision(kind, path: nil, source: nil, destination: nil)
    @provisions << { kind: kind, path: path, source: source, destination: destination }
  end
end

module Vagrant
  def self.configure(version)
    raise "version #{version}" unless version == "2"

    yield config = Machine.new
    machines = config.machines.transform_values do |machine|
      { hostname: machine.hostname, networks: machine.networks, provisions: machine.provisions }
    end
    providers = config.providers.transform_values { |provider| { cpus: provider.cpus, memory: provider.memory } }
    puts JSON.generate(box: config.box, providers: providers, machines: machines)
  end
end

load ARGV.fetch(0)
